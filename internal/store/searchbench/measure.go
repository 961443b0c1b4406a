package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"understudy/internal/query"
	"understudy/internal/store"
)

// typical are the queries that are timed. In them COMMON, MIDDLE, RARE and
// ONCE stand for words by how common they are, SENDER for an address.
var typical = []kind{
	{"user", ""},
	{"user", "COMMON"},
	{"user", "MIDDLE"},
	{"user", "RARE"},
	{"user", "COMMON MIDDLE"},
	{"user", `"COMMON MIDDLE"`},
	{"user", "subject:COMMON has:attachment"},
	{"user", "from:SENDER"},
	{"user", "MIDDLE after:30d -COMMON"},
	{"rare user", ""},
	{"rare user", "COMMON"},
	{"rare user", "MIDDLE OR RARE"},
	{"admin", ""},
	{"admin", "COMMON"},
	{"admin", "MIDDLE RARE"},
	{"admin", "ONCE"},
	{"admin", "subject:MIDDLE direction:out"},
	{"admin", "filename:pdf size:>1M"},
	{"admin", "on:10d-ago MIDDLE"},
	{"operator", ""},
	{"operator", "COMMON"},
	{"operator", "COMMON COMMON2"},
	{"operator", "MIDDLE"},
	{"operator", "RARE"},
	{"operator", "from:SENDER"},
	{"operator", "RAREPREFIX*"},
	{"operator", `subject:"COMMON COMMON2"`},
}

// kind of a query, and who asks it.
type kind struct{ who, text string }

func (k kind) String() string { return strings.TrimSpace(k.who + ": " + k.text) }

// warmUp is how often each query runs before it is timed: a connection plans its
// statements once.
const warmUp = 5

// measure times the queries, on one archive after the other.
func measure(ctx context.Context, archives []*archive, rounds int) error {
	for _, a := range archives {
		a.times, a.work = make([][]float64, len(typical)), make([][]float64, len(typical))
	}
	for round := range rounds + warmUp {
		for i, q := range typical {
			for _, a := range archives {
				f, err := a.generator.filter(q.who, q.text)
				if err != nil {
					return err
				}
				worked, ok := a.cpu(ctx)
				begin := time.Now()
				if _, _, err := a.store.SearchMessages(ctx, f); err != nil {
					return fmt.Errorf("%s: %w", q, err)
				}
				took := time.Since(begin)
				if done, still := a.cpu(ctx); ok && still && round >= warmUp {
					a.work[i] = append(a.work[i], float64((done-worked).Microseconds())/1000)
				}
				if round >= warmUp {
					a.times[i] = append(a.times[i], float64(took.Microseconds())/1000)
				}
			}
		}
	}
	return nil
}

func quantile(values []float64, q float64) float64 {
	v := slices.Sorted(slices.Values(values))
	return v[int(q*float64(len(v)-1)+.5)]
}

// filter makes a query of new words.
func (g *generator) filter(who, text string) (f store.MessageFilter, err error) {
	pick := func(from, to int) string { return g.words[from+g.rng.IntN(to-from)] }
	rare := pick(10_000, 30_000)
	text = strings.NewReplacer("RAREPREFIX", rare[:max(4, len(rare)-2)], "COMMON2", pick(0, 50), "COMMON", pick(0, 50), "MIDDLE", pick(300, 2000), "RARE", rare,
		"ONCE", pick(120_000, 200_000), "10d-ago", time.Now().UTC().AddDate(0, 0, -10).Format(time.DateOnly),
		"SENDER", fmt.Sprintf("%s@%s.test", pick(5000, 8000), pick(9000, 9500))).Replace(text)
	switch who {
	case "user":
		f.Access.Mailbox = g.boxes[g.rng.IntN(20)]
	case "rare user":
		f.Access.Mailbox = g.boxes[400+g.rng.IntN(100)]
	case "admin":
		f.Access.Domains = []string{fmt.Sprintf("customer%d.test", g.rng.IntN(domains))}
	default:
		f.Access.All = true
	}
	f.Query, err = query.Parse(text)
	return f, err
}
