// Package relaypath measures how many messages a second pass through Postfix
// to a domain's primary: with policyd, the archiving milter and relay-auto, by
// the same Postfix with nothing of ours, by that with a milter that only
// answers, and by stock archiving with always_bcc into a maildir. They take
// turns.
package relaypath

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"understudy/internal/bench"
	"understudy/internal/bench/rig"
	"understudy/internal/stack"
)

// clients send at once.
const clients = 20

// load is what is sent in one go.
type load struct {
	size, messages int
	open           bool // the connections stay open; else each message has its own
}

func (l load) String() string {
	name := fmt.Sprintf("%d KB, %d connections", l.size/1000, clients)
	if l.open {
		name += " that stay open"
	}
	return name
}

// way is one of the servers.
type way struct {
	name string
	smtp string    // where Postfix listens
	took []float64 // seconds, in each round
}

// Run measures messages of 5 KB and of 100 KB, over new and over open
// connections.
func Run(ctx context.Context, e *bench.Env) (err error) {
	g, err := rig.StartGateway(ctx, e, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.Close(ctx)) }()
	ways, stop, err := startWays(ctx, e, g)
	defer func() { err = errors.Join(err, stop()) }()
	if err != nil {
		return err
	}
	for _, open := range []bool{false, true} {
		for _, l := range []load{{5_000, e.Size(1500, 20), open}, {100_000, e.Size(500, 20), open}} {
			for _, w := range ways {
				w.took = nil
			}
			if err := measure(ctx, e, g, ways, l); err != nil {
				return err
			}
		}
	}
	return withIndexing(ctx, e, g)
}

// startWays starts what the gateway is compared with; stop ends it, also when
// there is an error.
func startWays(ctx context.Context, e *bench.Env, g *rig.Gateway) (ways []*way, stop func() error, err error) {
	var stops []func() error
	stop = func() (err error) {
		for _, f := range stops {
			err = errors.Join(err, f())
		}
		return err
	}
	socket := filepath.Join(e.Dir, "answers")
	answers, err := serveAnswers(socket)
	if err != nil {
		return nil, stop, err
	}
	stops = append(stops, answers.Close)
	ways = []*way{{name: "everything on", smtp: g.Info.SMTP}}
	for _, x := range []struct {
		name, dir string
		different map[string]string
	}{
		{"bare Postfix", "bare", nil},
		{"bare Postfix and a milter that only answers", "answering", map[string]string{"smtpd_milters": "unix:" + socket}},
		{"always_bcc", "bcc", alwaysBcc},
	} {
		p, err := startStock(ctx, e, g, x.dir, x.different)
		if err != nil {
			return nil, stop, err
		}
		stops = append(stops, p.Stop)
		ways = append(ways, &way{name: x.name, smtp: p.smtp})
	}
	return ways, stop, nil
}

// measure lets the ways take turns.
func measure(ctx context.Context, e *bench.Env, g *rig.Gateway, ways []*way, l load) error {
	for _, w := range ways { // a first time, for processes and caches
		if _, err := relay(ctx, g.Sink, w.smtp, load{l.size, clients, l.open}); err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
	}
	before, err := ours(g)
	if err != nil {
		return err
	}
	rounds := e.Size(5, 1)
	for round := range rounds {
		for _, w := range ways {
			took, err := relay(ctx, g.Sink, w.smtp, l)
			if err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			w.took = append(w.took, took.Seconds())
			e.Say("%v, round %d: %s %.0f messages/s", l, round+1, w.name, float64(l.messages)/took.Seconds())
		}
	}
	after, err := ours(g)
	if err != nil {
		return err
	}
	name := l.String()
	for i, c := range services {
		e.Report.Add(e.Result(name, string(c)+"'s CPU time", (after[i]-before[i]).Seconds()*1e6/float64(l.messages*rounds), "µs/message"))
	}
	for _, w := range ways {
		e.Report.Add(e.Result(name, w.name, float64(l.messages)/bench.Median(w.took), "messages/s"))
	}
	// The ratio of each round, whose runs were minutes apart at most, not of the medians.
	on, bare, answers, bcc := ways[0], ways[1], ways[2], ways[3]
	e.Report.Add(e.Result(name, "everything on : bare", ratio(bare, on), "").AtLeast(0.9))
	e.Report.Add(e.Result(name, "a milter that only answers : bare", ratio(bare, answers), ""))
	e.Report.Add(e.Result(name, "everything on : always_bcc", ratio(bcc, on), ""))
	return nil
}

// services are ours that every message passes.
var services = [...]stack.Component{stack.Milter, stack.Policyd}

// ours is how long each has computed.
func ours(g *rig.Gateway) (out [len(services)]time.Duration, err error) {
	for i, c := range services {
		pid, err := g.PID(c)
		if err != nil {
			return out, err
		}
		if out[i], err = rig.CPUOf(pid); err != nil {
			return out, err
		}
	}
	return out, nil
}

// ratio is the median of the rounds' ratios of rates, of b to a.
func ratio(a, b *way) float64 {
	var rounds []float64
	for i := range a.took {
		rounds = append(rounds, a.took[i]/b.took[i])
	}
	return bench.Median(rounds)
}

// relay sends messages and waits until the sink has them all.
func relay(ctx context.Context, sink *rig.Sink, smtp string, l load) (time.Duration, error) {
	before, err := sink.Count()
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	args := []string{"-s", strconv.Itoa(clients), "-m", strconv.Itoa(l.messages), "-l", strconv.Itoa(l.size), "-f", "a@example.org", "-t", "ana@" + stack.Domain}
	if l.open {
		args = append(args, "-d")
	}
	cmd := exec.CommandContext(ctx, "/usr/sbin/smtp-source", append(args, smtp)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("smtp-source: %w: %s", err, out)
	}
	if err := sink.Reached(ctx, before+l.messages, 5*time.Minute); err != nil {
		return 0, err
	}
	return time.Since(begin), nil
}

// withIndexing measures once more with the worker indexing what is archived,
// which it may as well do later.
func withIndexing(ctx context.Context, e *bench.Env, g *rig.Gateway) error {
	worker, err := rig.Start(e.Dir+"/worker.log", g.Info.Bin+"/understudy-worker", "-config", g.Dir()+"/etc/worker.yml")
	if err != nil {
		return err
	}
	defer worker.Stop() //nolint:errcheck // the stack's directory goes next
	l := load{size: 5_000, messages: e.Size(1500, 20)}
	var rates []float64
	for range e.Size(3, 1) {
		took, err := relay(ctx, g.Sink, g.Info.SMTP, l)
		if err != nil {
			return errors.Join(err, worker.Ended())
		}
		rates = append(rates, float64(l.messages)/took.Seconds())
	}
	if err := worker.Ended(); err != nil {
		return err
	}
	e.Report.Add(e.Result(l.String(), "everything on, and the worker indexing on the same CPUs", bench.Median(rates), "messages/s"))
	return nil
}
