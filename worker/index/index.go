// Package index fills PostgreSQL from the archive log.
//
// The log (internal/archive, docs/archive-format.md) is the truth, the index
// can be dropped and is then built anew. Each segment has a checkpoint that
// moves in the same transaction as the rows, so that a worker killed at any
// moment neither loses nor doubles a message.
//
// When PostgreSQL is down the indexer keeps its place and catches up later;
// the log is written by the milter meanwhile. A message that cannot be parsed
// is indexed by its envelope, a damaged record is counted and skipped.
package index

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"understudy/internal/archive"
	"understudy/internal/mime"
	"understudy/internal/store"
)

const (
	batchMessages = 200
	batchBytes    = 8 << 20          // of text, in one transaction
	writeTimeout  = 60 * time.Second // of one transaction
	reloadEvery   = 15 * time.Second // how soon an index dropped by somebody else is noticed
	retryWait     = time.Second      // after an error
)

// Store is what the indexer needs of PostgreSQL.
type Store interface {
	SegmentOffsets(ctx context.Context) (map[string]store.Checkpoint, error)
	IndexBatch(ctx context.Context, b store.IndexBatch) error
}

// Indexer reads the log in Dir into Store. Only one should run at a time; a
// second one does no harm but work in vain.
type Indexer struct {
	Dir      string
	Store    Store
	Interval time.Duration // between looks at the log
	Log      *slog.Logger
	Metrics  *Metrics

	decoder  *mime.Decoder
	known    map[string]store.Checkpoint // nil: to be read
	loadedAt time.Time
	caughtUp time.Time // when there was last nothing left to do
	lastErr  string
}

// Run indexes until ctx ends. Trouble is logged and tried again.
func (x *Indexer) Run(ctx context.Context) {
	x.decoder, x.known, x.caughtUp = mime.NewDecoder(), nil, time.Now()
	defer x.Metrics.lag(0, 0)
	for ctx.Err() == nil {
		wait := x.Interval
		err := x.pass(ctx)
		if err != nil && ctx.Err() == nil {
			x.Metrics.errors.Inc()
			wait = max(wait, retryWait)
		}
		x.report(err)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// report logs an error when it is a new one, and its end.
func (x *Indexer) report(err error) {
	switch {
	case err != nil && !errors.Is(err, context.Canceled) && err.Error() != x.lastErr:
		x.Log.Warn("archive index waits", "error", err)
		x.lastErr = err.Error()
	case err == nil && x.lastErr != "":
		x.Log.Info("archive index goes on")
		x.lastErr = ""
	}
}

// pass brings the index up to the end of the log, once.
func (x *Indexer) pass(ctx context.Context) error {
	defer x.measure()
	if x.known == nil || time.Since(x.loadedAt) > reloadEvery {
		known, err := x.Store.SegmentOffsets(ctx)
		if err != nil {
			return err
		}
		x.known, x.loadedAt = known, time.Now()
	}
	segments, err := archive.Segments(x.Dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, seg := range segments {
		at := x.known[seg.Name]
		if at.Sealed || seg.Open && at.Indexed >= seg.Size {
			continue
		}
		err := x.segment(ctx, seg.Name, at.Indexed)
		switch {
		case err == nil || errors.Is(err, fs.ErrNotExist): // expired meanwhile
		case errors.Is(err, store.ErrConflict):
			x.known = nil
			return err
		case errors.Is(err, errRead): // one unreadable segment does not hold up the others
			errs = append(errs, err)
		default:
			return err
		}
	}
	return errors.Join(errs...)
}

// measure tells how far the index is behind the log.
func (x *Indexer) measure() {
	if x.known == nil {
		x.Metrics.lag(0, time.Since(x.caughtUp))
		return
	}
	segments, err := archive.Segments(x.Dir)
	if err != nil {
		return
	}
	var behind int64
	for _, seg := range segments {
		if at := x.known[seg.Name]; !at.Sealed {
			behind += max(0, seg.Size-at.Indexed)
		}
	}
	if behind == 0 {
		x.caughtUp = time.Now()
	}
	x.Metrics.lag(behind, time.Since(x.caughtUp))
}

// write stores a batch and remembers the new checkpoint.
func (x *Indexer) write(ctx context.Context, b store.IndexBatch) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	begin := time.Now()
	if err := x.Store.IndexBatch(ctx, b); err != nil {
		return fmt.Errorf("write index: %w", err)
	}
	x.Metrics.batch.Observe(time.Since(begin).Seconds())
	x.Metrics.messages.Add(float64(len(b.Messages)))
	x.Metrics.damaged.Add(float64(b.Damaged))
	x.known[b.Segment] = store.Checkpoint{Segment: b.Segment, Indexed: b.To, Sealed: b.Sealed}
	return nil
}
