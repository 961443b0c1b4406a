// Package ship sends sealed segments of the archive to the
// bucket (internal/archive/ship) and frees the local disk. Each gateway's
// worker does this for its own disk.
//
// A segment goes through these steps, each of which may be cut off by kill -9
// at any place and is then done again:
//
//	its SHA-256 is written to PostgreSQL    an object may be in the bucket from here on
//	it is uploaded                          it appears there whole, or not at all
//	it is read back and compared            "verified": the bucket has it
//	keep_local passes, the index has it
//	the object is looked at once more, and the local file is unlinked
//
// While the store is down, or PostgreSQL, nothing is removed and nobody waits:
// segments stay in the local archive and metrics tell how old the oldest is.
package ship

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"understudy/internal/archive"
	"understudy/internal/archive/ship"
	"understudy/internal/store"
)

const (
	every     = time.Minute
	timeout   = time.Hour // of one run; what is left then waits for the next
	firstWait = 30 * time.Second
	longest   = 15 * time.Minute // between tries at a store that is down
)

// Store is what shipping needs of PostgreSQL.
type Store interface {
	SegmentOffsets(ctx context.Context) (map[string]store.Checkpoint, error)
	Shipments(ctx context.Context) (map[string]store.Shipment, error)
	BeginShipping(ctx context.Context, segment string, size int64, sha256 []byte) (bool, error)
	FinishShipping(ctx context.Context, segment string) (bool, error)
	ForgetShipping(ctx context.Context, segment string) error
}

// Config of a Shipper.
type Config struct {
	Dir       string       // the local archive
	Bucket    *ship.Bucket // nil: nothing is sent
	Store     Store
	After     time.Duration // age of a segment, from its start, at which it is sent
	KeepLocal time.Duration // and at which the local one is removed, if it was
	Log       *slog.Logger
	Metrics   prometheus.Registerer
}

// Shipper ships the segments of one gateway.
type Shipper struct {
	Config

	metrics *metrics
	wait    time.Duration // after the first error of the store

	failures  int       // runs in a row that met trouble with the store
	notBefore time.Time // the store is left alone until then
	lastErr   string
	lastOther string // trouble that was not the store's
}

// New makes a shipper.
func New(c Config) *Shipper {
	return &Shipper{Config: c, metrics: newMetrics(c.Metrics), wait: firstWait}
}

// Run brings the bucket up to date, now and every minute, until ctx ends.
func (s *Shipper) Run(ctx context.Context) {
	for ctx.Err() == nil {
		err := s.once(ctx)
		switch {
		case ctx.Err() != nil:
		case err == nil:
			s.lastOther = ""
		case err.Error() != s.lastOther:
			s.lastOther = err.Error()
			s.Log.Error("segments are not shipped", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(min(every, max(time.Second, s.After))):
		}
	}
}

// once brings the bucket up to date, as far as the store answers.
func (s *Shipper) once(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	w, err := s.look(ctx)
	if err != nil {
		return err
	}
	if s.Bucket == nil {
		return w.forget(ctx)
	}
	defer func() { s.metrics.waiting(w.waiting()) }()
	s.metrics.waiting(w.waiting())
	if time.Now().Before(s.notBefore) {
		return nil
	}
	return s.judge(ctx, w.run(ctx))
}

// errStore marks trouble with the bucket: the rest of a run would meet it too.
var errStore = errors.New("archive bucket does not work")

// judge decides what becomes of a run's error: that of the store is logged
// once and waited out, others are returned.
func (s *Shipper) judge(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err // the worker ends, or time is up
	}
	if !errors.Is(err, errStore) {
		if s.failures > 0 {
			s.Log.Info("archive bucket works again")
		}
		s.failures, s.notBefore, s.lastErr = 0, time.Time{}, ""
		return err
	}
	wait := min(s.wait<<min(s.failures, 10), longest)
	s.failures++
	s.notBefore = time.Now().Add(wait)
	if text := err.Error(); text != s.lastErr {
		s.lastErr = text
		s.Log.Error("segments are not shipped; they stay in the local archive", "error", err, "failures", s.failures, "retry_in", wait)
	}
	return nil
}

// world is what a run finds.
type world struct {
	*Shipper
	local   map[string]archive.Segment // sealed ones
	order   []string                   // their names, oldest first
	known   map[string]store.Shipment
	indexed map[string]store.Checkpoint
}

func (s *Shipper) look(ctx context.Context) (*world, error) {
	w := &world{Shipper: s, local: map[string]archive.Segment{}}
	// PostgreSQL first: a segment that was shipped since is looked at again.
	var err error
	if w.known, err = s.Store.Shipments(ctx); err != nil {
		return nil, err
	}
	if w.indexed, err = s.Store.SegmentOffsets(ctx); err != nil {
		return nil, err
	}
	segments, err := archive.Segments(s.Dir)
	if err != nil {
		return nil, fmt.Errorf("ship segments: %w", err)
	}
	for _, seg := range segments {
		if !seg.Open {
			w.local[seg.Name] = seg
			w.order = append(w.order, seg.Name)
		}
	}
	return w, nil
}

// due reports whether a segment is to be sent.
func (w *world) due(name string) bool {
	k, ok := w.known[name]
	return age(name) >= w.After && !(ok && (k.Verified != nil || k.Removed != nil))
}

// waiting counts the segments that are due.
func (w *world) waiting() (n int, bytes int64, oldest time.Time) {
	for _, name := range w.order {
		if w.due(name) {
			if n == 0 {
				oldest, _ = archive.Started(name) //nolint:errcheck // names of a list are good
			}
			n++
			bytes += w.local[name].Size
		}
	}
	return n, bytes, oldest
}

func age(segment string) time.Duration {
	t, err := archive.Started(segment)
	if err != nil {
		return 0
	}
	return time.Since(t)
}
