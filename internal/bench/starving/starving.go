// Package starving measures whether customers whose primaries swallow packets
// slow the mail of a healthy one: the time from acceptance to arrival at the
// healthy domain's primary by itself, beside 20 domains whose primaries are
// alive, and beside the same 20, with the same mail, whose primaries are dead.
// The second tells what mail of that volume costs the machine; the third,
// compared with it, what the dead ones take from the healthy one.
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
	"time"

	"understudy/internal/bench"
	"understudy/internal/bench/rig"
	"understudy/internal/stack"
)

const pace = 100 * time.Millisecond // between two messages for the healthy domain

// run is what the measurements share.
type run struct {
	e       *bench.Env
	stack   *stack.Stack
	healthy *primary
	tokens  int
	made    int // neighbours
}

// Run takes turns between mail for the healthy domain alone, and beside
// neighbours that are alive and dead.
func Run(ctx context.Context, e *bench.Env) (err error) {
	s, err := e.Stack(ctx, stack.Variables{"postfix_primary_connect_timeout": "5s"},
		stack.Postgres, stack.Policyd, stack.DovecotAuth, stack.Milter, stack.Dovecot, stack.Postfix, stack.Admin)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Down(context.WithoutCancel(ctx))) }()
	healthy, err := newPrimary(s.Info.Primary.SMTP)
	if err != nil {
		return err
	}
	defer healthy.close()
	if _, err := rig.Send(s.Info.SMTP, "ana@"+stack.Domain, "before"); err != nil {
		return err
	}
	r := &run{e: e, stack: s, healthy: healthy}
	if err := r.withoutWorker(ctx); err != nil {
		return err
	}
	worker, err := rig.Start(filepath.Join(e.Dir, "worker.log"), s.Info.Bin+"/understudy-worker", "-config", s.Dir()+"/etc/worker.yml")
	if err != nil {
		return err
	}
	defer worker.Stop() //nolint:errcheck // the stack's directory goes next
	return errors.Join(r.withWorker(ctx), worker.Ended())
}

// withoutWorker measures what the dead cost while nothing switches them.
func (r *run) withoutWorker(ctx context.Context) error {
	n, err := r.newNeighbours(ctx)
	if err != nil {
		return err
	}
	defer n.close()
	var c comparison
	for range r.e.Size(3, 1) {
		if err := r.beforeDeath(ctx, n, &c); err != nil {
			return err
		}
		if err := n.die(); err != nil {
			return err
		}
		// Until relay-auto's processes wait for the dead.
		if err := rest(ctx, r.seconds(10)); err != nil {
			return err
		}
		if err := r.measure(ctx, n, &c.dead); err != nil {
			return err
		}
		n.endMail()
		if err := rest(ctx, r.seconds(15)); err != nil { // until what waits has fallen back
			return err
		}
		if err := n.revive(); err != nil {
			return err
		}
	}
	r.report("no switching", &c)
	return nil
}

// withWorker measures from the moment of their death on, and again when all
// are switched.
func (r *run) withWorker(ctx context.Context) error {
	var first, later comparison
	for range r.e.Size(3, 1) {
		if err := r.switched(ctx, &first, &later); err != nil {
			return err
		}
	}
	later.without, later.alive = first.without, first.alive
	r.report("while they are switched", &first)
	r.report("when they are switched", &later)
	return nil
}

// switched is one round, with neighbours of its own: a domain that returns
// waits for minutes, and then drains.
func (r *run) switched(ctx context.Context, first, later *comparison) error {
	n, err := r.newNeighbours(ctx)
	if err != nil {
		return err
	}
	defer n.close()
	if err := r.beforeDeath(ctx, n, first); err != nil {
		return err
	}
	if err := n.die(); err != nil {
		return err
	}
	if err := r.measure(ctx, n, &first.dead); err != nil {
		return err
	}
	if err := n.awaitEmergency(ctx); err != nil {
		return err
	}
	if err := r.measure(ctx, n, &later.dead); err != nil {
		return err
	}
	n.endMail()
	return rest(ctx, r.seconds(15))
}

// beforeDeath measures the healthy domain by itself, then beside neighbours
// that are alive. Their mail goes on.
func (r *run) beforeDeath(ctx context.Context, n *neighbours, c *comparison) error {
	if err := r.measure(ctx, n, &c.without); err != nil {
		return err
	}
	n.beginMail()
	if err := rest(ctx, r.seconds(3)); err != nil { // until all of them send
		return err
	}
	return r.measure(ctx, n, &c.alive)
}

// measure adds a round: messages to the healthy domain at a pace that does not
// depend on how they fare.
func (r *run) measure(ctx context.Context, n *neighbours, to *delays) error {
	sent, refused := n.count()
	accepted := map[string]time.Time{}
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for range r.e.Size(150, 5) {
		r.tokens++
		token := fmt.Sprintf("healthy-%d", r.tokens)
		at, err := rig.Send(r.stack.Info.SMTP, "ana@"+stack.Domain, token)
		if err != nil {
			return fmt.Errorf("to the healthy domain: %w", err)
		}
		accepted[token] = at
		<-tick.C
	}
	took := make([]time.Duration, 0, len(accepted))
	for token, at := range accepted {
		arrived, err := r.healthy.wait(ctx, token)
		if err != nil {
			return err
		}
		took = append(took, max(time.Microsecond, arrived.Sub(at))) // the primary may have it before we read the reply
	}
	to.rounds = append(to.rounds, took)
	sent2, refused2 := n.count()
	r.e.Say("p50 %v, p95 %v; %s: %d messages accepted, %d not", bench.Percentile(took, 50).Round(time.Millisecond),
		bench.Percentile(took, 95).Round(time.Millisecond), n.state(), sent2-sent, refused2-refused)
	if n.sending() && sent2 == sent {
		return errors.New("no message for a neighbour was accepted")
	}
	return nil
}

// seconds is a pause, short in a short run.
func (r *run) seconds(n int) time.Duration { return time.Duration(r.e.Size(n, 1)) * time.Second }

func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
