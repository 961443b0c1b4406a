// Package reroute makes Postfix resolve a domain's deferred mail anew after a
// change of mode, so that it goes the new way at once and not at its next
// retry.
//
// It asks postqueue(1) to flush the domain (-s), again and again: mail that
// was active at the change may be deferred after it. It looks at the queue
// (-j) to know when it is done. qmgr remembers the last address that it
// resolved for 30 s (resolve_clnt(3)), and mail that is alone in the queue
// would go its old way for as long. So each flush follows a nudge: a message
// to nobody, which qmgr resolves and discards.
//
// policyd must know the new mode before the first flush; when it cannot be
// asked, two seconds are all it is given. When re-entry does not take the
// nudge, the flush follows all the same, and a later round makes up for it.
// When Postfix is down, postqueue fails: the next round tries again, and at
// last River does. Mail that is
// never flushed is not lost: Postfix retries it by itself. PostgreSQL down
// ends a round with an error, and River tries again.
package reroute

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/riverqueue/river"

	"understudy/internal/address"
	"understudy/internal/delivery"
	"understudy/internal/job"
	"understudy/internal/store"
)

// Changes is what the worker needs of the store.
type Changes interface {
	Mode(ctx context.Context, domain string) (store.ModeState, error)
}

// Config is what a Worker works with; every field but Metrics is needed.
type Config struct {
	Changes   Changes
	Postqueue []string // command and first arguments, such as "postqueue", "-c", DIR
	Control   string   // path of policyd's control socket
	Reentry   string   // host:port of Postfix's re-entry listener, which takes the nudge
	Delivery  *delivery.Client
	Log       *slog.Logger
	Metrics   prometheus.Registerer
}

// Worker is the River worker for job.Reroute. A run is one round; between
// rounds the job sleeps in River's table, so that one outage of many domains
// does not keep any of them waiting for a first round.
type Worker struct {
	river.WorkerDefaults[job.Reroute]
	Config
	metrics *metrics
}

// rounds are when to flush, after the first time: soon and often, as long as
// attempts that were under way at the change may last.
var rounds = []time.Duration{0, time.Second, 3 * time.Second, 6 * time.Second, 12 * time.Second, 20 * time.Second, 35 * time.Second,
	time.Minute, 90 * time.Second, 2 * time.Minute}

const (
	settled        = 35 * time.Second // qmgr's memory of an address is over by then, nudge or not
	commandTimeout = 20 * time.Second // of postqueue
	nudgeTimeout   = 5 * time.Second
	nudgeTime      = 100 * time.Millisecond // for qmgr to have taken it up
	catchUp        = 2 * time.Second        // for policyd to know the change
)

// New returns a worker.
func New(c Config) *Worker { return &Worker{Config: c, metrics: newMetrics(c.Metrics)} }

// Timeout bounds a round.
func (w *Worker) Timeout(*river.Job[job.Reroute]) time.Duration {
	return catchUp + nudgeTimeout + 2*commandTimeout + time.Minute
}

// NextRetry spaces the attempts after an error.
func (w *Worker) NextRetry(j *river.Job[job.Reroute]) time.Time {
	return time.Now().Add(min(5*time.Second<<min(j.Attempt, 10), time.Minute))
}

// Work makes one round, and sleeps until the next unless nothing of the
// domain is deferred any more, a newer change of mode has its own job, or the
// rounds are over.
func (w *Worker) Work(ctx context.Context, j *river.Job[job.Reroute]) error {
	domain := j.Args.Domain
	if err := checkDomain(domain); err != nil {
		return river.JobCancel(err)
	}
	state, err := w.Changes.Mode(ctx, domain)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return err
	case state.Change > j.Args.Change:
		w.Log.Info("re-routing left to a newer change of mode", "domain", domain, "change", j.Args.Change, "newest", state.Change)
		return nil
	}
	round := min(snoozes(j), len(rounds)-1)
	if round == 0 {
		w.awaitPolicyd(ctx, state.Version)
	}
	queue, err := w.round(ctx, domain)
	last := round == len(rounds)-1
	switch {
	case err != nil:
		w.metrics.failures.Inc()
		if last {
			return err
		}
		w.Log.Warn("re-routing of deferred mail: this round failed", "domain", domain, "round", round+1, "error", err)
	case last, queue.deferred == 0 && (queue.active == 0 || rounds[round] >= settled):
		w.metrics.seconds.Observe(time.Since(j.Args.At).Seconds())
		w.Log.Info("deferred mail re-routed", "domain", domain, "mode", state.Mode, "rounds", round+1, "deferred", queue.deferred)
		return nil
	}
	return river.JobSnooze(rounds[round+1] - rounds[round])
}

// round nudges and flushes, and tells what was queued then.
//
// A domain's flush can miss messages: it goes by a list of queue ids (flush(8))
// where a message with several recipients is noted while it is still active,
// and struck off again by a flush before it is deferred. What is deferred
// right after a flush was missed by it, and is flushed by its id.
func (w *Worker) round(ctx context.Context, domain string) (count, error) {
	if err := w.nudge(ctx); err != nil {
		w.Log.Warn("qmgr not nudged; re-routing all the same", "domain", domain, "error", err)
	}
	w.metrics.flushes.Inc()
	if err := w.flush(ctx, domain); err != nil {
		return count{}, err
	}
	queue, err := w.queued(ctx, domain)
	for _, id := range queue.ids {
		if err == nil {
			err = w.flushOne(ctx, id)
		}
	}
	return queue, err
}

// snoozes is how often River has put the job off before: the rounds made.
func snoozes(j *river.Job[job.Reroute]) int {
	var m struct {
		Snoozes int `json:"snoozes"`
	}
	if err := json.Unmarshal(j.Metadata, &m); err != nil {
		return 0
	}
	return max(m.Snoozes, 0)
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
