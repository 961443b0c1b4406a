// Package expire removes what is past its retention: whole segments of the
// archive log, and whole days of the index. docs/retention.md says when what
// goes.
//
// Searches stop to show a message at its time by themselves; this only frees
// the bytes. It removes nothing while PostgreSQL is down, and nothing that is
// not whole in the index, because then nobody knows whose it is. A worker that
// is killed in between goes on with the next run. Each gateway's worker does
// this for its own disk.
package expire

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"understudy/internal/archive"
	"understudy/internal/store"
)

const (
	timeout = 10 * time.Minute // of one run; the next one goes on
	every   = time.Hour
	again   = 5 * time.Minute // after a run with an error

	// What another gateway has is left to its worker for this long; then it is
	// gone, or comes back to be indexed and expired once more.
	elsewhere = 2 * every
)

// Store is what the expiry needs of PostgreSQL.
type Store interface {
	ExpiredSegments(ctx context.Context, at time.Time) ([]store.Checkpoint, error)
	ExpireSegment(ctx context.Context, name string, at time.Time, remove func() error) (bool, error)
	OldDays(ctx context.Context, at time.Time) ([]time.Time, error)
	DropExpiredDay(ctx context.Context, day, at time.Time) (bool, error)
	Prune(ctx context.Context, at time.Time) (redeliveries, audit int64, err error)
}

// Config of the expiry.
type Config struct {
	Dir     string // the local archive
	Host    string // the gateway's name
	Store   Store
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// Expiry removes what has expired.
type Expiry struct {
	Config

	segments, bytes, days, runs, errors prometheus.Counter
}

// New makes the expiry of a gateway's archive.
func New(c Config) *Expiry {
	counter := func(name, help string) prometheus.Counter {
		m := prometheus.NewCounter(prometheus.CounterOpts{Name: "understudy_worker_" + name + "_total", Help: help})
		c.Metrics.MustRegister(m)
		return m
	}
	return &Expiry{Config: c, segments: counter("expired_segments", "Archive segments removed because all in them has expired."),
		bytes: counter("expired_bytes", "Bytes of local archive segments removed."), days: counter("expired_days", "Days of the archive index dropped."),
		runs: counter("expiry_runs", "Runs of the expiry."), errors: counter("expiry_errors", "Runs of the expiry that met an error and are done again soon.")}
}

// Run removes what has expired, now and every hour, until ctx ends.
func (x *Expiry) Run(ctx context.Context) {
	last := ""
	for ctx.Err() == nil {
		err := x.once(ctx, time.Now())
		x.runs.Inc()
		wait := every
		if err != nil && ctx.Err() == nil {
			wait = again
			x.errors.Inc()
			if last != err.Error() {
				last = err.Error()
				x.Log.Error("expiry is not complete", "error", err, "retry_in", wait)
			}
		} else {
			last = ""
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// once removes what has expired at a time. Trouble with one segment does not
// keep the others.
func (x *Expiry) once(ctx context.Context, at time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	local, err := archive.Segments(x.Dir)
	if err != nil {
		return err
	}
	here := map[string]archive.Segment{}
	for _, s := range local {
		here[s.Name] = s
	}
	expired, err := x.Store.ExpiredSegments(ctx, at)
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range expired {
		if err := ctx.Err(); err != nil {
			return errors.Join(append(errs, err)...)
		}
		errs = append(errs, x.segment(ctx, c, here, at))
	}
	errs = append(errs, x.emptyDays(at), x.index(ctx, at))
	redeliveries, audit, err := x.Store.Prune(ctx, at)
	if redeliveries > 0 || audit > 0 {
		x.Log.Info("what was done long ago is forgotten", "redeliveries", redeliveries, "audit_lines", audit)
	}
	return errors.Join(append(errs, err)...)
}

// index drops the days of which nothing is needed.
func (x *Expiry) index(ctx context.Context, at time.Time) error {
	days, err := x.Store.OldDays(ctx, at)
	errs := []error{err}
	for _, day := range days {
		dropped, err := x.Store.DropExpiredDay(ctx, day, at)
		errs = append(errs, err)
		if dropped {
			x.days.Inc()
			x.Log.Info("archive index of an expired day dropped", "day", day.Format(time.DateOnly))
		}
	}
	return errors.Join(errs...)
}

// segment removes one segment: the index forgets it, its copy in the bucket is
// marked, and the file is unlinked, all or nothing.
func (x *Expiry) segment(ctx context.Context, c store.Checkpoint, here map[string]archive.Segment, at time.Time) error {
	file, local := here[c.Segment]
	if !local && c.Host != "" && c.Host != x.Host {
		at = at.Add(-elsewhere)
	}
	if local && (file.Open || file.Size != c.Indexed) {
		x.Log.Warn("expired archive segment is not as it was indexed; it stays", "segment", c.Segment, "size", file.Size, "indexed", c.Indexed)
		return nil
	}
	removed, err := x.Store.ExpireSegment(ctx, c.Segment, at, func() error { return archive.RemoveSealed(x.Dir, c.Segment) })
	if !removed || err != nil {
		return err
	}
	x.segments.Inc()
	x.bytes.Add(float64(file.Size))
	x.Log.Info("expired archive segment removed", "segment", c.Segment, "records", c.Records)
	return nil
}

// emptyDays removes the directories of days that have no segment any more.
// Nothing is sealed into one that is over and of which no segment is open.
func (x *Expiry) emptyDays(at time.Time) error {
	list, err := archive.Segments(x.Dir)
	if err != nil {
		return err
	}
	keep := map[string]bool{}
	for _, s := range list {
		started, err := archive.Started(s.Name)
		if err != nil {
			return err
		}
		keep[started.Format(time.DateOnly)] = true
	}
	entries, err := os.ReadDir(x.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list archive: %w", err)
	}
	over := at.UTC().AddDate(0, 0, -1).Format(time.DateOnly)
	for _, e := range entries {
		_, err := time.Parse(time.DateOnly, e.Name())
		if err != nil || !e.IsDir() || keep[e.Name()] || e.Name() >= over {
			continue
		}
		os.Remove(filepath.Join(x.Dir, e.Name())) //nolint:errcheck // something foreign is in it: it stays
	}
	return nil
}
