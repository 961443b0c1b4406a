// Package expire removes what is past its retention: whole segments of the
// archive log, and whole days of the index. docs/retention.md says when what
// goes.
//
// Searches stop to show a message at its time by themselves; this only frees
// the bytes. It removes nothing while PostgreSQL is down, and nothing that is
// not whole in the index, because then nobody knows whose it is. A worker that
// is killed in between goes on with the next run.
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
	"github.com/riverqueue/river"

	"understudy/internal/archive"
	"understudy/internal/job"
	"understudy/internal/store"
)

const timeout = 2 * time.Minute // of one run; the next one goes on

// Store is what the job needs of PostgreSQL.
type Store interface {
	ExpiredSegments(ctx context.Context, at time.Time) ([]store.Checkpoint, error)
	ExpireSegment(ctx context.Context, name string, at time.Time, remove func() error) (bool, error)
	ExpireShipping(ctx context.Context, segment string) error
	OldDays(ctx context.Context, at time.Time) ([]time.Time, error)
	DropExpiredDay(ctx context.Context, day, at time.Time) (bool, error)
}

// Worker works Retention jobs.
type Worker struct {
	river.WorkerDefaults[job.Retention]
	dir      string
	store    Store
	log      *slog.Logger
	segments prometheus.Counter
	bytes    prometheus.Counter
	days     prometheus.Counter
}

// New makes the worker for the archive in dir.
func New(dir string, s Store, log *slog.Logger, metrics prometheus.Registerer) *Worker {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "understudy_worker_expired_" + name + "_total", Help: help})
	}
	w := &Worker{dir: dir, store: s, log: log, segments: counter("segments", "Archive segments removed because all in them has expired."),
		bytes: counter("bytes", "Bytes of local archive segments removed."), days: counter("days", "Days of the archive index dropped.")}
	metrics.MustRegister(w.segments, w.bytes, w.days)
	return w
}

// Timeout bounds a run.
func (w *Worker) Timeout(*river.Job[job.Retention]) time.Duration { return timeout }

// Work removes what has expired by now.
func (w *Worker) Work(ctx context.Context, _ *river.Job[job.Retention]) error {
	return w.expire(ctx, time.Now())
}

// expire removes what has expired at a time. Trouble with one segment does
// not keep the others.
func (w *Worker) expire(ctx context.Context, at time.Time) error {
	expired, err := w.store.ExpiredSegments(ctx, at)
	if err != nil {
		return err
	}
	local, err := archive.Segments(w.dir)
	if err != nil {
		return err
	}
	paths := map[string]archive.Segment{}
	for _, s := range local {
		paths[s.Name] = s
	}
	var errs []error
	for _, c := range expired {
		if err := ctx.Err(); err != nil {
			return errors.Join(append(errs, err)...)
		}
		errs = append(errs, w.segment(ctx, c, paths[c.Segment], at))
	}
	days, err := w.store.OldDays(ctx, at)
	errs = append(errs, err)
	for _, day := range days {
		dropped, err := w.store.DropExpiredDay(ctx, day, at)
		errs = append(errs, err)
		if dropped {
			w.days.Inc()
			w.log.Info("archive index of an expired day dropped", "day", day.Format(time.DateOnly))
		}
	}
	return errors.Join(errs...)
}

// segment removes one segment: its copy in the bucket is marked, the file
// unlinked, and then the index forgets it.
func (w *Worker) segment(ctx context.Context, c store.Checkpoint, file archive.Segment, at time.Time) error {
	if file.Open || file.Name != "" && file.Size != c.Indexed {
		w.log.Warn("expired archive segment is not as it was indexed; it stays", "segment", c.Segment, "size", file.Size, "indexed", c.Indexed)
		return nil
	}
	removed, err := w.store.ExpireSegment(ctx, c.Segment, at, func() error {
		if err := w.store.ExpireShipping(ctx, c.Segment); err != nil || file.Name == "" {
			return err
		}
		return unlink(file.Path)
	})
	if !removed || err != nil {
		return err
	}
	w.segments.Inc()
	w.bytes.Add(float64(file.Size))
	w.log.Info("expired archive segment removed", "segment", c.Segment, "records", c.Records)
	return nil
}

// unlink removes a file for good, and the directory of its day if that was
// the last one.
func unlink(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove segment: %w", err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("sync after removing a segment: %w", err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("sync after removing a segment: %w", err)
	}
	os.Remove(dir.Name()) //nolint:errcheck // not empty: there are others
	return nil
}
