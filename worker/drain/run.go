package drain

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"understudy/internal/address"
	"understudy/internal/directory"
	"understudy/internal/store"
)

// maxRefusals is how many 4xx in a row, each for another message, make the
// whole primary suspect.
const maxRefusals = 10

// run is one pass over the INBOXes of a domain.
type run struct {
	*Worker
	domain string
	until  time.Time

	mu       sync.Mutex
	sum      Summary
	stopped  bool // no further message
	refusals int  // in a row
}

func newRun(w *Worker, domain string) *run {
	return &run{Worker: w, domain: domain, until: time.Now().Add(maxRun), sum: Summary{Outcome: Complete}}
}

// askAtOnce is how many mailboxes the portal is asked for between two looks at
// whether the run may go on: a second or two.
const askAtOnce = 200

// all looks at every mailbox that may have something and drains those that
// have. Its error is the ledger's; other trouble is an outcome.
func (r *run) all(ctx context.Context) error {
	d := r.ready(ctx)
	if d == nil {
		return nil
	}
	list, err := r.Ledger.OpenMailboxes(ctx, r.Gateway, r.domain)
	if err != nil {
		return err
	}
	open := make(map[string]bool, len(list))
	for _, m := range list {
		open[m] = true
	}
	boxes, err := r.mailboxes(ctx, d, open)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(r.Concurrency)
	for some := range slices.Chunk(boxes, askAtOnce) {
		asked := r.now() // before: what comes meanwhile is asked for again
		if r.ready(ctx) == nil {
			break
		}
		for _, m := range r.holding(ctx, some, open, asked) {
			if r.ready(ctx) == nil {
				break
			}
			group.Go(func() error { return r.guarded(ctx, m, asked) })
		}
	}
	return group.Wait()
}

// guarded keeps a panic over one mailbox from ending the process.
func (r *run) guarded(ctx context.Context, m *directory.Mailbox, asked time.Time) (err error) {
	defer func() {
		if v := recover(); v != nil {
			r.metrics.panics.Inc()
			r.Log.Error("panic while draining a mailbox", "mailbox", m.Address, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			r.trouble()
		}
	}()
	done, err := r.mailbox(ctx, m)
	if done && err == nil {
		r.looks.done(r.domain, m.Address, asked)
	}
	return err
}

// mailboxes returns the registered ones that are due or open in the ledger.
// The others are forgotten: their mail is nobody's now.
func (r *run) mailboxes(ctx context.Context, d *directory.Domain, open map[string]bool) ([]*directory.Mailbox, error) {
	due := r.looks.due(r.domain, r.now())
	seen := make(map[string]bool, len(due)+len(open))
	var out []*directory.Mailbox
	for _, name := range slices.AppendSeq(due, maps.Keys(open)) {
		if seen[name] { // due and open
			continue
		}
		seen[name] = true
		to, err := address.Parse(name)
		if m := r.Directory.Recipient(to).Mailbox; err == nil && m != nil && m.Address == name && m.DomainID == d.ID {
			out = append(out, m)
			continue
		}
		r.looks.forget(r.domain, name)
		if open[name] {
			if err := r.Ledger.Settle(ctx, r.Gateway, name, []string{}); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// holding returns which of some mailboxes have something to do, by asking the
// portal; of the others it notes that they are dealt with.
func (r *run) holding(ctx context.Context, some []*directory.Mailbox, open map[string]bool, asked time.Time) []*directory.Mailbox {
	addresses := make([]string, len(some))
	for i, m := range some {
		addresses[i] = m.Address
	}
	counts, err := r.Portal.Counts(ctx, addresses)
	if err != nil {
		r.Log.Warn("drain cannot ask the portal", "domain", r.domain, "error", err)
		r.stop()
		return nil
	}
	r.metrics.asked.Add(float64(len(some)))
	var todo []*directory.Mailbox
	for _, m := range some {
		n, known := counts[m.Address]
		switch {
		case !known:
			r.Log.Debug("portal mailbox cannot be opened now", "mailbox", m.Address)
		case n > 0 || open[m.Address]:
			todo = append(todo, m)
		default:
			r.looks.done(r.domain, m.Address, asked)
		}
	}
	return todo
}

// ready tells whether another message may be sent, by the domain as the
// directory in memory has it this moment; nil when the run must end.
func (r *run) ready(ctx context.Context) *directory.Domain {
	d, ok := r.Directory.Domain(r.domain)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.stopped:
		return nil
	case !ok || d.Mode != directory.Normal:
		r.end(NotNormal)
		return nil
	case ctx.Err() != nil || time.Now().After(r.until):
		r.end(Unfinished)
		return nil
	}
	return d
}

// end stops the run; r.mu is held.
func (r *run) end(o Outcome) {
	r.stopped = true
	// An emergency outranks trouble, which outranks an unfinished run.
	if r.sum.Outcome == Complete || r.sum.Outcome == Unfinished || o == NotNormal {
		r.sum.Outcome = o
	}
}

// stop ends the run for trouble that every message would meet.
func (r *run) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end(Trouble)
}

// trouble notes that something has to be tried again later.
func (r *run) trouble() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sum.Outcome == Complete || r.sum.Outcome == Unfinished {
		r.sum.Outcome = Trouble
	}
}

// refused notes a 4xx for one message.
func (r *run) refused() {
	r.trouble()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refusals++; r.refusals >= maxRefusals {
		r.end(Trouble)
	}
}

func (r *run) count(f func(*Summary)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.sum)
}

// decided notes that the primary has judged a message.
func (r *run) decided() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refusals = 0
}

func (r *run) summary() Summary {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sum
}

// record writes to the ledger what has happened outside, whether or not the
// run is being cancelled, and tries again when PostgreSQL stumbles: what is
// not written here is sent twice.
func record(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	for wait := 50 * time.Millisecond; ; wait *= 2 {
		err := f(ctx)
		if err == nil || errors.Is(err, store.ErrNotFound) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}
