// Package reroute makes Postfix resolve a domain's deferred mail anew after a
// change of mode, so that it goes the new way at once and not at its next
// retry. Each gateway's worker does so for the queue of its own Postfix.
//
// It asks postqueue(1) to flush the domain (-s), again and again: mail that
// was active at the change may be deferred after it. It looks at the queue
// (-j) to know when it is done. qmgr remembers the last address that it
// resolved for 30 s (resolve_clnt(3)), and mail that is alone in the queue
// would go its old way for as long. So each flush follows a nudge: a message
// to nobody, which qmgr resolves and discards. Domains that change at the
// same time share nudges and listings: a server that serves hundreds of them
// may fail while the queue is long.
//
// Changes of mode are seen in the directory. Those that came while this worker
// was down are made up for at its start.
//
// policyd must know the new mode before the first flush; when it cannot be
// asked, two seconds are all it is given. When re-entry does not take the
// nudge, the flush follows all the same, and a later round makes up for it.
// When Postfix is down, postqueue -s fails: the next round tries again, and
// after the last one it is tried once a minute. A queue that cannot be listed
// is flushed in each round, and that is all. Mail that is never flushed is
// not lost: Postfix retries it by itself. PostgreSQL down: the directory
// answers from memory, and no mode changes.
package reroute

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"understudy/internal/address"
	"understudy/internal/delivery"
	"understudy/internal/directory"
)

// Config is what a Rerouter works with; every field but Metrics is needed.
type Config struct {
	Directory *directory.Directory
	Postqueue []string // command and first arguments, such as "postqueue", "-c", DIR
	Control   string   // path of policyd's control socket
	Reentry   string   // host:port of Postfix's re-entry listener, which takes the nudge
	Delivery  *delivery.Client
	Log       *slog.Logger
	Metrics   prometheus.Registerer
}

// Rerouter looks after the queue of this machine's Postfix.
type Rerouter struct {
	Config
	metrics *metrics
	flushes *shared[error]
	lists   *shared[*count]
	turns   chan struct{} // flushes at once
}

// rounds are when to flush, after the first time: soon and often, as long as
// attempts that were under way at the change may last.
var rounds = []time.Duration{0, time.Second, 3 * time.Second, 6 * time.Second, 12 * time.Second, 20 * time.Second, 35 * time.Second,
	time.Minute, 90 * time.Second, 2 * time.Minute}

const (
	atOnce         = 4
	settled        = 35 * time.Second // qmgr's memory of an address is over by then, nudge or not
	failedPause    = time.Minute      // after the last round, while no flush is possible
	commandTimeout = 20 * time.Second // of a flush
	listTimeout    = 2 * time.Minute  // of a listing: a queue may be long
	nudgeTimeout   = 5 * time.Second
	nudgeTime      = 100 * time.Millisecond // for qmgr to have taken it up
	catchUp        = 2 * time.Second        // for policyd to know the change
)

// New returns a rerouter.
func New(c Config) *Rerouter {
	w := &Rerouter{Config: c, metrics: newMetrics(c.Metrics), turns: make(chan struct{}, atOnce)}
	w.flushes, w.lists = newShared(w.flushAll), newShared(w.queued)
	return w
}

// change is a domain's newest change of mode.
type change struct {
	domain  string
	mode    directory.Mode
	since   time.Time
	version int64 // of a directory that has it
	missed  bool  // it came before this worker started
}

// follow makes rounds until nothing of the domain is deferred any more or they
// are over. ctx ends with a newer change.
func (w *Rerouter) follow(ctx context.Context, c change) {
	if err := checkDomain(c.domain); err != nil {
		w.Log.Error("deferred mail not re-routed", "error", err)
		return
	}
	w.awaitPolicyd(ctx, c.version)
	for n := 0; ctx.Err() == nil; n++ {
		wait, done := w.step(ctx, c, n)
		if done || sleep(ctx, wait) != nil {
			return
		}
	}
}

// step makes the nth round; done, or wait for the next.
func (w *Rerouter) step(ctx context.Context, c change, n int) (wait time.Duration, done bool) {
	last := n >= len(rounds)-1
	queue, flushed, err := w.round(ctx, c.domain)
	if ctx.Err() != nil {
		return 0, true
	}
	if err != nil {
		w.metrics.failures.Inc()
		w.Log.Warn("re-routing of deferred mail: this round failed", "domain", c.domain, "round", n+1, "error", err)
	}
	switch {
	case last && !flushed:
		return failedPause, false
	case last, err == nil && queue.deferred == 0 && (queue.active == 0 || rounds[n] >= settled):
		if !c.missed {
			w.metrics.seconds.Observe(time.Since(c.since).Seconds())
		}
		w.Log.Info("deferred mail re-routed", "domain", c.domain, "mode", c.mode, "rounds", n+1, "deferred", queue.deferred)
		return 0, true
	}
	return rounds[n+1] - rounds[n], false
}

// round nudges and flushes, and tells what was queued then.
//
// A domain's flush can miss messages: it goes by a list of queue ids (flush(8))
// where a message with several recipients is noted while it is still active,
// and struck off again by a flush before it is deferred. What is deferred
// right after a flush was missed by it, and is flushed by its id.
func (w *Rerouter) round(ctx context.Context, domain string) (queue count, flushed bool, err error) {
	failed, err := w.flushes.do(ctx, domain)
	if err = cmp.Or(failed, err); err != nil {
		return count{}, false, err
	}
	found, err := w.lists.do(ctx, domain)
	if err != nil {
		return count{}, true, err
	}
	for _, id := range found.ids {
		if err := w.turn(ctx, func() error { return w.flushOne(ctx, id) }); err != nil {
			return *found, true, err
		}
	}
	return *found, true, nil
}

// flushAll nudges once and flushes domains; the errors are of each of them.
func (w *Rerouter) flushAll(ctx context.Context, domains []string) (map[string]error, error) {
	if err := w.nudge(ctx); err != nil {
		w.Log.Warn("qmgr not nudged; re-routing all the same", "error", err)
	}
	failed := make([]error, len(domains))
	var all sync.WaitGroup
	for i, domain := range domains {
		all.Go(func() {
			failed[i] = w.turn(ctx, func() error { return w.flush(ctx, domain) })
		})
	}
	all.Wait()
	out := make(map[string]error, len(domains))
	for i, domain := range domains {
		out[domain] = failed[i]
	}
	return out, ctx.Err()
}

// turn runs f when fewer than atOnce others run.
func (w *Rerouter) turn(ctx context.Context, f func() error) error {
	select {
	case w.turns <- struct{}{}:
		defer func() { <-w.turns }()
		return f()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// checkDomain refuses what must not become an argument of a command.
func checkDomain(domain string) error {
	normal, err := address.Domain(domain)
	if err != nil || normal != domain || domain == "" || strings.HasPrefix(domain, "-") || strings.HasPrefix(domain, "[") {
		return fmt.Errorf("re-route: %.64q is no domain of ours", domain)
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}
