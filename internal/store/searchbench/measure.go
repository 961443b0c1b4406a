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
var typical = []struct{ who, text string }{
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

// result is how long one query took.
type result struct {
	Name  string  `json:"name"`
	Found float64 `json:"found"` // messages of the first page, on average
	P50   float64 `json:"p50_ms"`
	P95   float64 `json:"p95_ms"`
	Max   float64 `json:"max_ms"`
}

func measure(ctx context.Context, s *store.Store, g *generator, rounds int) (out []result, p50, p95 float64, err error) {
	times := make([][]float64, len(typical))
	found := make([]int, len(typical))
	for round := range rounds + 2 { // two to warm up
		for i, q := range typical {
			f, err := g.filter(q.who, q.text)
			if err != nil {
				return nil, 0, 0, err
			}
			begin := time.Now()
			rows, _, err := s.SearchMessages(ctx, f)
			if err != nil {
				return nil, 0, 0, fmt.Errorf("%s %s: %w", q.who, q.text, err)
			}
			if round >= 2 {
				times[i] = append(times[i], float64(time.Since(begin).Microseconds())/1000)
				found[i] += len(rows)
			}
		}
	}
	var all []float64
	for i, q := range typical {
		slices.Sort(times[i])
		all = append(all, times[i]...)
		out = append(out, result{Name: strings.TrimSpace(q.who + ": " + q.text), Found: float64(found[i]) / float64(rounds),
			P50: quantile(times[i], .5), P95: quantile(times[i], .95), Max: times[i][len(times[i])-1]})
	}
	slices.Sort(all)
	return out, quantile(all, .5), quantile(all, .95), nil
}

func quantile(sorted []float64, q float64) float64 { return sorted[int(q*float64(len(sorted)-1)+.5)] }

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
