// Package jobs runs River, the job queue in PostgreSQL
// (https://riverqueue.com/docs), and the small job that needs no package of
// its own: partitions.
//
// When PostgreSQL goes away River tries again in steps of up to a minute, and
// for that long nothing would be scheduled after the server is back: so the
// River client is replaced then. A job that ran meanwhile and could not be
// marked as done is run again: every job must bear that.
package jobs

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"understudy/internal/job"
)

const (
	retryWait   = time.Second
	pingEvery   = 2 * time.Second
	pingTimeout = 3 * time.Second
	softStop    = 10 * time.Second // for running jobs, at the end; then they are cancelled
	hardStop    = 20 * time.Second
	atOnce      = 16
	stuckMargin = time.Minute
)

// Store is what the runner needs of PostgreSQL beside River's own.
type Store interface {
	ReleaseJobs(ctx context.Context, client string) (int64, error)
}

// Runner works jobs.
type Runner struct {
	Pool     *pgxpool.Pool
	Store    Store
	ID       string // of this worker, the same after a restart, no other process's
	Gateway  string // the name of its machine: jobs for that are worked too
	Workers  *river.Workers
	Periodic []*river.PeriodicJob // beside partitions
	Longest  time.Duration        // the longest timeout of any job
	Log      *slog.Logger
	Metrics  prometheus.Registerer

	running atomic.Bool
	results *prometheus.CounterVec
	seconds *prometheus.HistogramVec
}

// Running reports whether jobs are being worked.
func (r *Runner) Running() bool { return r.running.Load() }

// Run works jobs until ctx ends, and then lets running ones finish for a
// while.
func (r *Runner) Run(ctx context.Context) {
	r.results = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "understudy_worker_jobs_total", Help: "Jobs worked, by kind and result."}, []string{"kind", "result"})
	r.seconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "understudy_worker_job_seconds", Help: "Time that jobs ran.", Buckets: []float64{.01, .05, .1, .5, 1, 5, 10, 30, 60, 300, 900}}, []string{"kind"})
	r.Metrics.MustRegister(r.results, r.seconds)
	var last string
	for ctx.Err() == nil {
		err := r.work(ctx)
		if err != nil && ctx.Err() == nil && err.Error() != last {
			last = err.Error()
			r.Log.Warn("jobs wait", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryWait):
		}
	}
}

// work runs one River client until ctx ends or it stops by itself.
func (r *Runner) work(ctx context.Context) error {
	// No client of this name is running: its running jobs are left over.
	released, err := r.Store.ReleaseJobs(ctx, r.ID)
	if err != nil {
		return err
	}
	if released > 0 {
		r.Log.Info("jobs left by a killed worker run again", "count", released)
	}
	client, err := river.NewClient(riverpgxv5.New(r.Pool), r.config())
	if err != nil {
		return fmt.Errorf("prepare job queue: %w", err)
	}
	events, unsubscribe := client.Subscribe(river.EventKindJobCompleted, river.EventKindJobFailed,
		river.EventKindJobCancelled, river.EventKindJobSnoozed)
	defer unsubscribe()
	if err := client.Start(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("start job queue: %w", err)
	}
	r.running.Store(true)
	defer r.running.Store(false)
	r.attend(ctx, client, events)
	// Running jobs may go on for a while; the next client must wait for them.
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), hardStop)
	defer cancel()
	if err := client.Stop(stop); err != nil {
		r.Log.Error("a job does not end when it should", "error", err)
		select {
		case <-client.Stopped():
		case <-ctx.Done():
		}
	}
	return nil
}

// attend counts what a client does until it has to end: with ctx, by itself,
// or because PostgreSQL is back after it was away.
func (r *Runner) attend(ctx context.Context, client *river.Client[pgx.Tx], events <-chan *river.Event) {
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	for away := false; ; {
		select {
		case e, ok := <-events:
			if ok {
				r.count(e)
			}
		case <-ping.C:
			err := r.ping(ctx)
			if err == nil && away {
				r.Log.Info("PostgreSQL is back: job queue starts anew")
				return
			}
			away = err != nil
		case <-client.Stopped():
			return
		case <-ctx.Done():
			return
		}
	}
}

func (r *Runner) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	return r.Pool.Ping(ctx)
}

func (r *Runner) config() *river.Config {
	partitions := func() (river.JobArgs, *river.InsertOpts) { return job.Partitions{}, nil }
	atStart := &river.PeriodicJobOpts{RunOnStart: true}
	return &river.Config{
		ID: r.ID, Logger: r.Log, Workers: r.Workers,
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: atOnce}, job.GatewayQueue(r.Gateway): {MaxWorkers: atOnce}},
		PeriodicJobs: append([]*river.PeriodicJob{
			river.NewPeriodicJob(river.PeriodicInterval(time.Hour), partitions, atStart),
		}, r.Periodic...),
		RescueStuckJobsAfter: r.Longest + stuckMargin, // of a worker that is gone for good
		SoftStopTimeout:      softStop,
		ReindexerSchedule:    river.NeverSchedule(), // this role may not
	}
}

func (r *Runner) count(e *river.Event) {
	result := map[river.EventKind]string{river.EventKindJobCompleted: "done", river.EventKindJobFailed: "failed",
		river.EventKindJobCancelled: "cancelled", river.EventKindJobSnoozed: "snoozed"}[e.Kind]
	r.results.WithLabelValues(e.Job.Kind, result).Inc()
	if e.JobStats != nil {
		r.seconds.WithLabelValues(e.Job.Kind).Observe(e.JobStats.RunDuration.Seconds())
	}
}
