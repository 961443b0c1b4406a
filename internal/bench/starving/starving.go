// Package starving measures whether customers whose primaries swallow packets
// slow the mail of a healthy one: the time from acceptance to arrival at the
// healthy domain's primary, with and without mail for 20 dead ones.
//
// First nothing switches: the dead domains stay in normal mode, as if the
// worker were away, and every message for them waits for a timeout. Then the
// worker runs, and switches them to their portal.
package starving

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"understudy/internal/bench"
	"understudy/internal/bench/rig"
	"understudy/internal/freeport"
	"understudy/internal/stack"
)

const (
	deadDomains = 20
	deadPace    = 500 * time.Millisecond // between two messages for one dead domain
	pace        = 100 * time.Millisecond // between two messages for the healthy one
)

// Run takes turns between phases without and with mail for dead domains.
func Run(ctx context.Context, e *bench.Env) (err error) {
	s, err := e.Stack(ctx, stack.Variables{"postfix_primary_connect_timeout": "5s"},
		stack.Postgres, stack.Policyd, stack.DovecotAuth, stack.Milter, stack.Dovecot, stack.Postfix, stack.Admin)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Down(context.WithoutCancel(ctx))) }()
	healthy, err := newArrivals(s.Info.Primary.SMTP)
	if err != nil {
		return err
	}
	defer healthy.close()
	if _, err := rig.Send(s.Info.SMTP, "ana@"+stack.Domain, "before"); err != nil {
		return err
	}
	dead, err := makeDead(ctx, e, s)
	if err != nil {
		return err
	}
	r := &run{e: e, stack: s, healthy: healthy, dead: dead}
	if err := r.compare(ctx, "no switching", e.Size(3, 1)); err != nil {
		return err
	}
	worker, err := rig.Start(filepath.Join(e.Dir, "worker.log"), s.Info.Bin+"/understudy-worker", "-config", s.Dir()+"/etc/worker.yml")
	if err != nil {
		return err
	}
	defer worker.Stop() //nolint:errcheck // the stack's directory goes next
	for _, x := range []struct {
		name   string
		rounds int
	}{{"while they are switched", 1}, {"when they are switched", e.Size(3, 1)}} {
		if err := r.compare(ctx, x.name, x.rounds); err != nil {
			return errors.Join(err, worker.Ended())
		}
	}
	return worker.Ended()
}

// compare takes turns between phases without and with mail for the dead.
func (r *run) compare(ctx context.Context, name string, rounds int) error {
	n := r.e.Size(100, 5)
	var without, with []time.Duration
	for range rounds {
		took, err := r.phase(ctx, n)
		if err != nil {
			return fmt.Errorf("without dead domains: %w", err)
		}
		without = append(without, took...)
		stop := r.sendToDead()
		// Until relay-auto's processes wait for the dead.
		if err := rest(ctx, time.Duration(r.e.Size(10, 1))*time.Second); err != nil {
			return err
		}
		took, err = r.phase(ctx, n)
		sent, refused := stop()
		if err != nil {
			return fmt.Errorf("with dead domains: %w", err)
		}
		with = append(with, took...)
		r.e.Say("%s: p95 %v without, %v with (%d messages to dead domains accepted, %d not)", name,
			bench.Percentile(without, 95).Round(time.Millisecond), bench.Percentile(with, 95).Round(time.Millisecond), sent, refused)
		if sent == 0 {
			return errors.New("no message for a dead domain was accepted")
		}
		// Until what waits has fallen back.
		if err := rest(ctx, time.Duration(r.e.Size(15, 1))*time.Second); err != nil {
			return err
		}
	}
	name = fmt.Sprintf("healthy domain beside %d that swallow packets, %s, %d messages", deadDomains, name, len(with))
	a, b := bench.Percentile(without, 95).Seconds(), bench.Percentile(with, 95).Seconds()
	r.e.Report.Add(r.e.Result(name, "delay without them, p95", a, "s"))
	r.e.Report.Add(r.e.Result(name, "delay with them, p95", b, "s"))
	r.e.Report.Add(r.e.Result(name, "with : without, p95", b/a, "").AtMost(1.5))
	return nil
}

// makeDead makes the domains, each with a mailbox and a primary of its own.
func makeDead(ctx context.Context, e *bench.Env, s *stack.Stack) ([]string, error) {
	var users []string
	for i := range deadDomains {
		address, err := freeport.Address()
		if err != nil {
			return nil, err
		}
		hole, err := rig.NewSwallow(address)
		if err != nil {
			return nil, err
		}
		context.AfterFunc(ctx, func() { hole.Close() })
		name := fmt.Sprintf("dead%d.test", i)
		if _, err := s.CLI(ctx, "", "domain", "add", name, "--primary", address, "--activation", "automatic"); err != nil {
			return nil, err
		}
		users = append(users, "user@"+name)
		if _, err := s.CLI(ctx, "a password of enough length\n", "mailbox", "add", "user@"+name, "--password-stdin"); err != nil {
			return nil, err
		}
	}
	e.Say("%d domains are dead", len(users))
	return users, nil
}

// run is what the phases share.
type run struct {
	e       *bench.Env
	stack   *stack.Stack
	healthy *arrivals
	dead    []string
	tokens  int
}

// phase sends n messages to the healthy domain, at a pace that does not depend
// on how they fare, and returns their delays.
func (r *run) phase(ctx context.Context, n int) ([]time.Duration, error) {
	accepted := map[string]time.Time{}
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for range n {
		r.tokens++
		token := fmt.Sprintf("healthy-%d", r.tokens)
		at, err := rig.Send(r.stack.Info.SMTP, "ana@"+stack.Domain, token)
		if err != nil {
			return nil, err
		}
		accepted[token] = at
		<-tick.C
	}
	took := make([]time.Duration, 0, n)
	for token, at := range accepted {
		arrived, err := r.healthy.wait(ctx, token)
		if err != nil {
			return nil, err
		}
		took = append(took, max(0, arrived.Sub(at)))
	}
	return took, nil
}

// sendToDead sends to all dead domains until stop is called.
func (r *run) sendToDead() (stop func() (sent, refused int)) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	sent, refused := 0, 0
	for _, user := range r.dead {
		wg.Go(func() {
			tick := time.NewTicker(deadPace)
			defer tick.Stop()
			for {
				_, err := rig.Send(r.stack.Info.SMTP, user, "to a dead domain")
				mu.Lock()
				if err == nil {
					sent++
				} else {
					refused++ // a sender would try again
				}
				mu.Unlock()
				select {
				case <-done:
					return
				case <-tick.C:
				}
			}
		})
	}
	return func() (int, int) {
		close(done)
		wg.Wait()
		return sent, refused
	}
}

func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
