// Package failover measures how long a message is on its way to the reader
// when the primary does not take it: from the moment Postfix accepted it until
// it is readable by IMAP in the portal.
package failover

import (
	"context"
	"errors"
	"fmt"
	"time"

	"understudy/internal/bench"
	"understudy/internal/bench/rig"
	"understudy/internal/stack"
	"understudy/internal/wait"
)

const (
	reader = "ana@" + stack.Domain
	// between two messages of an outage that the detector sees
	pace = 500 * time.Millisecond
)

// Run measures single messages that fall back, each by a failed attempt at
// the primary, and then the messages of an outage during which the worker
// switches the domain.
func Run(ctx context.Context, e *bench.Env) (err error) {
	connectTimeout := time.Duration(e.Size(5, 1)) * time.Second // of relay-auto
	s, err := e.Stack(ctx, stack.Variables{"postfix_primary_connect_timeout": fmt.Sprint(connectTimeout)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Down(context.WithoutCancel(ctx))) }()
	r := &run{e: e, stack: s}
	if r.inbox, err = openInbox(s); err != nil {
		return err
	}
	defer r.inbox.close()
	if r.front, err = rig.NewFront(s.Info.Primary.SMTP); err != nil {
		return err
	}
	defer r.front.Refuse() //nolint:errcheck // its end
	if _, err := s.CLI(ctx, "", "domain", "set", stack.Domain, "--primary", r.front.Address); err != nil {
		return err
	}
	n := e.Size(24, 2)
	timeout := (connectTimeout + 2*time.Second).Seconds()
	outages := []outage{{"connection refused", r.front.Refuse, 1, 0.5}, {"timeout", r.front.Vanish, 5, timeout}}
	// Without the worker nothing switches: each message tries the primary.
	if err := s.Stop(ctx, stack.Worker); err != nil {
		return err
	}
	for _, o := range outages {
		if err := r.fallBack(ctx, o, n); err != nil {
			return fmt.Errorf("%s: %w", o.name, err)
		}
	}
	if err := s.Start(ctx, stack.Worker); err != nil {
		return err
	}
	for _, o := range outages {
		if err := r.switching(ctx, o, n); err != nil {
			return fmt.Errorf("%s, with switching: %w", o.name, err)
		}
	}
	return nil
}

// outage is one way in which a primary is away.
type outage struct {
	name  string
	begin func() error
	batch int     // messages at once where each tries the primary: no more than relay-auto connects at first
	limit float64 // goal in seconds
}

// run is what the cases share.
type run struct {
	e     *bench.Env
	stack *stack.Stack
	inbox *inbox
	front *rig.Front
}

// heal puts the primary back, and sends a message to it: Postfix knows the
// recipient then, and where its mail goes.
func (r *run) heal(ctx context.Context) error {
	if err := r.front.Pass(); err != nil {
		return err
	}
	maps, err := rig.DialSocketmap(r.stack.Dir() + "/postfix/queue/sidecar/socketmap")
	if err != nil {
		return err
	}
	defer maps.Close()
	want := fmt.Sprintf("OK relay-auto:[127.0.0.1]%s", r.front.Address[len("127.0.0.1"):])
	err = wait.For(ctx, 2*time.Minute, rig.Poll, func() error {
		if got, err := maps.Lookup("transport", reader); err != nil || got != want {
			return fmt.Errorf("route of %s: %q, %w; want %s", reader, got, err, want)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return wait.For(ctx, 2*time.Minute, time.Second, func() error {
		_, err := rig.Send(r.stack.Info.SMTP, reader, "while all is well")
		return err
	})
}

// fallBack sends messages that all try the primary.
func (r *run) fallBack(ctx context.Context, o outage, n int) error {
	if err := r.heal(ctx); err != nil {
		return err
	}
	if err := o.begin(); err != nil {
		return err
	}
	r.e.Say("%s: %d messages", o.name, n)
	var took []time.Duration
	for len(took) < n {
		times, err := r.send(ctx, min(o.batch, n-len(took)), 0)
		if err != nil {
			return err
		}
		took = append(took, times...)
	}
	r.report(o.name+", no switching", took, o.limit)
	return nil
}

// switching sends messages from the first moment of an outage on, while the
// worker notices it and switches the domain.
func (r *run) switching(ctx context.Context, o outage, n int) error {
	if err := r.heal(ctx); err != nil {
		return err
	}
	if err := o.begin(); err != nil {
		return err
	}
	r.e.Say("%s, with switching: %d messages", o.name, n)
	took, err := r.send(ctx, n, pace)
	if err != nil {
		return err
	}
	r.report(o.name+", with switching", took, o.limit)
	return nil
}

func (r *run) report(name string, took []time.Duration, limit float64) {
	name = fmt.Sprintf("%s, %d messages", name, len(took))
	r.e.Report.Add(r.e.Result(name, "accepted to readable, p50", bench.Percentile(took, 50).Seconds(), "s"))
	r.e.Report.Add(r.e.Result(name, "accepted to readable, p95", bench.Percentile(took, 95).Seconds(), "s").AtMost(limit))
}
