// Package reroute makes Postfix resolve a domain's deferred mail anew after a
// change of mode, so that it goes the new way at once and not at its next
// retry.
//
// It asks postqueue(1) to flush the domain (-s), again and again: qmgr
// remembers the last address that it resolved for about 30 s, and mail that
// was active at the change may be deferred after it. It looks at the queue
// (-j) to know when it is done.
//
// policyd must know the new mode before the first flush; when it cannot be
// asked, two seconds are all it is given. When Postfix is down, postqueue
// fails: the next round tries again, and at last River does. Mail that is
// never flushed is not lost: Postfix retries it by itself. PostgreSQL down
// ends the job with an error, and River tries again.
package reroute

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/riverqueue/river"

	"understudy/internal/address"
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
	Log       *slog.Logger
	Metrics   prometheus.Registerer
}

// Worker is the River worker for job.Reroute.
type Worker struct {
	river.WorkerDefaults[job.Reroute]
	Config
	rounds  []time.Duration // when to flush, from the start of the job
	metrics *metrics
}

// schedule is when the rounds begin: soon and often, then past qmgr's memory
// of an address.
var schedule = []time.Duration{0, time.Second, 5 * time.Second, 15 * time.Second, 35 * time.Second, time.Minute, 90 * time.Second, 2 * time.Minute}

const (
	settled        = 35 * time.Second // qmgr's memory of an address is over by then
	commandTimeout = 20 * time.Second // of postqueue
	catchUp        = 2 * time.Second  // for policyd to know the change
)

// New returns a worker.
func New(c Config) *Worker { return &Worker{Config: c, rounds: schedule, metrics: newMetrics(c.Metrics)} }

// Timeout bounds the job: its last round begins after two minutes.
func (w *Worker) Timeout(*river.Job[job.Reroute]) time.Duration {
	return schedule[len(schedule)-1] + catchUp + 2*commandTimeout + 10*time.Second
}

// NextRetry spaces the attempts after an error.
func (w *Worker) NextRetry(j *river.Job[job.Reroute]) time.Time {
	return time.Now().Add(min(5*time.Second<<min(j.Attempt, 10), time.Minute))
}

// Work flushes until nothing of the domain is deferred any more, a newer
// change of mode has its own job, or two minutes have passed.
func (w *Worker) Work(ctx context.Context, j *river.Job[job.Reroute]) error {
	domain := j.Args.Domain
	if err := checkDomain(domain); err != nil {
		return river.JobCancel(err)
	}
	state, err := w.Changes.Mode(ctx, domain)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	w.awaitPolicyd(ctx, state.Version)
	began := time.Now()
	var left, rounds int
	for _, at := range w.rounds {
		if err := sleep(ctx, time.Until(began.Add(at))); err != nil {
			return err
		}
		newest, over := w.superseded(ctx, j.Args)
		if over {
			w.Log.Info("re-routing left to a newer change of mode", "domain", domain, "change", j.Args.Change, "newest", newest)
			return nil
		}
		rounds++
		var active int
		if left, active, err = w.round(ctx, domain); err != nil {
			w.metrics.failures.Inc()
			w.Log.Warn("re-routing of deferred mail: this round failed", "domain", domain, "round", rounds, "error", err)
			continue
		}
		if left == 0 && (active == 0 || at >= settled) {
			break
		}
	}
	w.metrics.seconds.Observe(time.Since(j.Args.At).Seconds())
	w.Log.Info("deferred mail re-routed", "domain", domain, "mode", state.Mode, "rounds", rounds, "deferred", left)
	return err
}

// round flushes once, and tells how many recipients of the domain were
// deferred and active before: after it they may be on their way.
func (w *Worker) round(ctx context.Context, domain string) (deferred, active int, err error) {
	if deferred, active, err = w.queued(ctx, domain); err != nil || deferred == 0 {
		return deferred, active, err
	}
	w.metrics.flushes.Inc()
	return deferred, active, w.flush(ctx, domain)
}

// superseded reports whether the mode changed again since. When PostgreSQL
// cannot say, the job goes on: a flush too many does no harm.
func (w *Worker) superseded(ctx context.Context, a job.Reroute) (newest int64, yes bool) {
	state, err := w.Changes.Mode(ctx, a.Domain)
	return state.Change, errors.Is(err, store.ErrNotFound) || err == nil && state.Change > a.Change
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
