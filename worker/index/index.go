// Package index fills PostgreSQL from the archive log.
//
// The log (internal/archive, docs/archive-format.md) is the truth, the index
// can be dropped and is then built anew. Each segment has a checkpoint that
// moves in the same transaction as the rows, so that a worker killed at any
// moment neither loses nor doubles a message.
//
// When PostgreSQL is down the indexer keeps its place and catches up later;
// the log is written by the milter meanwhile. A message that cannot be parsed
// is indexed by its envelope, a damaged record is counted and skipped. In front
// of an encrypted record without the key to it (archive_identity_file) the
// segment waits: the others go on, and it is caught up once there is the key.
package index

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"understudy/internal/archive/ship"
	"understudy/internal/mime"
	"understudy/internal/store"
)

const (
	batchMessages = 1000
	batchBytes    = 16 << 20         // of text, in one transaction
	writeTimeout  = 5 * time.Minute  // of one transaction
	reloadEvery   = 15 * time.Second // how soon an index dropped by somebody else is noticed
	retryWait     = time.Second      // after an error
	tidyEvery     = 10 * time.Second // when there is nothing else to do
	tidyUntouched = time.Hour        // nothing was added to a day that is tidied
)

// Store is what the indexer needs of PostgreSQL.
type Store interface {
	SegmentOffsets(ctx context.Context) (map[string]store.Checkpoint, error)
	IndexBatch(ctx context.Context, b store.IndexBatch) error
	TidyIndex(ctx context.Context, untouched time.Duration) (done bool, err error)
}

// Indexer reads the log in Dir into Store: each gateway's worker its own. What
// is in the bucket alone (Source) is read by the worker that leads. Where two
// read the same they do no harm but work in vain.
type Indexer struct {
	Dir      string
	Source   ship.Source // where segments are read; nil: Dir
	Host     string      // name of the gateway that has them; "" when they are in the bucket alone
	Store    Store
	Interval time.Duration // between looks at the log
	Log      *slog.Logger
	Metrics  *Metrics

	batch    int // messages in one transaction; 0 is batchMessages
	decoder  *mime.Decoder
	known    map[string]store.Checkpoint // nil: to be read
	loadedAt time.Time
	caughtUp time.Time // when there was last nothing left to do
	tidied   time.Time // when there was last nothing to tidy
	lastErr  string
}

func (x *Indexer) source() ship.Source {
	if x.Source != nil {
		return x.Source
	}
	return ship.Local{Dir: x.Dir}
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

// CatchUp indexes what the log has now.
func (x *Indexer) CatchUp(ctx context.Context) error {
	x.decoder, x.known, x.caughtUp = mime.NewDecoder(), nil, time.Now()
	return x.pass(ctx)
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
	defer x.measure(ctx)
	if x.known == nil || time.Since(x.loadedAt) > min(reloadEvery, 30*x.Interval) {
		known, err := x.Store.SegmentOffsets(ctx)
		if err != nil {
			return err
		}
		x.known, x.loadedAt = known, time.Now()
	}
	segments, err := x.source().Segments(ctx)
	if err != nil {
		return err
	}
	var errs []error
	locked := 0
	defer func() { x.Metrics.locked.Set(float64(locked)) }()
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
		case errors.Is(err, errLocked):
			if locked++; locked == 1 {
				errs = append(errs, err)
			}
		case errors.Is(err, errRead): // one unreadable segment does not hold up the others
			errs = append(errs, err)
		default:
			return err
		}
	}
	return errors.Join(append(errs, x.tidy(ctx))...)
}

// tidy tidies one day, if there is one.
func (x *Indexer) tidy(ctx context.Context) error {
	if time.Since(x.tidied) < tidyEvery {
		return nil
	}
	done, err := x.Store.TidyIndex(ctx, tidyUntouched)
	if err != nil {
		return err
	}
	if !done {
		x.tidied = time.Now()
	}
	return nil
}

// measure tells how far the index is behind the log.
func (x *Indexer) measure(ctx context.Context) {
	if x.known == nil {
		x.Metrics.lag(0, time.Since(x.caughtUp))
		return
	}
	segments, err := x.source().Segments(ctx)
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
	b.Host = x.Host
	if err := x.Store.IndexBatch(ctx, b); err != nil {
		return fmt.Errorf("write index: %w", err)
	}
	x.Metrics.batch.Observe(time.Since(begin).Seconds())
	x.Metrics.messages.Add(float64(len(b.Messages)))
	x.Metrics.damaged.Add(float64(b.Damaged))
	x.known[b.Segment] = store.Checkpoint{Segment: b.Segment, Indexed: b.To, Sealed: b.Sealed}
	return nil
}
