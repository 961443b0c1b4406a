package index

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"understudy/internal/archive"
	"understudy/internal/archive/indexed"
	"understudy/internal/store"
)

// errRead marks trouble with one segment's file.
var errRead = errors.New("segment cannot be read")

// errLocked says that a segment waits for the key to its next record. Its text
// is always the same, so that it is logged once.
var errLocked = fmt.Errorf("records are %w with the right key", archive.ErrEncrypted)

// item is a message with what its record takes of the segment.
type item struct {
	message store.IndexedMessage
	end     int64 // offset behind the record
	damaged int64 // bytes skipped in front of it
}

// segment indexes one segment from an offset to its present end.
func (x *Indexer) segment(ctx context.Context, name string, from int64) error {
	r, err := x.source().OpenSegment(ctx, name)
	if err != nil {
		return fmt.Errorf("%w: %w", errRead, err)
	}
	defer r.Close()
	if err := r.SeekTo(from); err != nil {
		return fmt.Errorf("%w: %w", errRead, err)
	}
	for at, damaged := from, int64(0); ; {
		items, end, err := x.read(ctx, r)
		to := r.Offset()
		var encrypted *archive.EncryptedError
		if errors.As(err, &encrypted) { // wait for the key in front of it
			to = encrypted.Ref.Offset
		} else if err != nil {
			return err
		}
		b := store.IndexBatch{Segment: name, From: at, To: to, Sealed: end && !r.Open(), Damaged: r.Damaged() - damaged}
		if b.To > b.From || b.Sealed {
			if err := x.store(ctx, b, items); err != nil {
				return err
			}
		}
		if encrypted != nil {
			return errLocked
		}
		if end {
			return nil
		}
		at, damaged = b.To, r.Damaged()
	}
}

// read collects the records of one batch; end says that there is no more now.
func (x *Indexer) read(ctx context.Context, r *archive.SegmentReader) (items []item, end bool, err error) {
	for size, damaged := 0, r.Damaged(); len(items) < cmp.Or(x.batch, batchMessages) && size < batchBytes; {
		if err := ctx.Err(); err != nil {
			return nil, false, err
		}
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			return items, true, nil
		}
		if errors.Is(err, archive.ErrEncrypted) {
			return items, false, err
		}
		if err != nil {
			return nil, false, fmt.Errorf("%w: %w", errRead, err)
		}
		m := x.message(rec)
		items = append(items, item{message: m, end: r.Offset(), damaged: r.Damaged() - damaged})
		damaged = r.Damaged()
		size += len(m.Text) + len(m.ToHeader) + len(m.Subject)
	}
	return items, false, nil
}

// message makes a record's row: from its envelope, and what can be decoded.
func (x *Indexer) message(rec *archive.Record) store.IndexedMessage {
	m, err := indexed.Message(rec, x.decoder)
	if err != nil {
		x.Metrics.failures.Inc()
		x.Log.Warn("message not fully decoded for the index", "id", rec.ID, "queue_id", rec.QueueID, "error", err)
	}
	return m
}

// store writes a batch. When PostgreSQL refuses the data of a message the
// batch is written one by one, and that message by its envelope alone.
func (x *Indexer) store(ctx context.Context, b store.IndexBatch, items []item) error {
	for _, it := range items {
		b.Messages = append(b.Messages, it.message)
	}
	err := x.write(ctx, b)
	if !errors.Is(err, store.ErrData) {
		return err
	}
	at := b.From
	for _, it := range items {
		one := store.IndexBatch{Segment: b.Segment, From: at, To: it.end, Damaged: it.damaged, Messages: []store.IndexedMessage{it.message}}
		if err := x.storeOne(ctx, one); err != nil {
			return err
		}
		at = it.end
		b.Damaged -= it.damaged
	}
	b.From, b.Messages = at, nil // what lies behind the last record
	if b.To == b.From && !b.Sealed {
		return nil
	}
	return x.write(ctx, b)
}

func (x *Indexer) storeOne(ctx context.Context, b store.IndexBatch) error {
	err := x.write(ctx, b)
	if !errors.Is(err, store.ErrData) {
		return err
	}
	m := &b.Messages[0]
	x.Metrics.failures.Inc()
	x.Log.Error("message indexed by its envelope alone", "id", m.ID, "queue_id", m.QueueID, "error", err)
	m.EnvelopeOnly()
	if err = x.write(ctx, b); !errors.Is(err, store.ErrData) {
		return err
	}
	x.Log.Error("message left out of the index; it stays in the archive", "id", m.ID, "queue_id", m.QueueID, "error", err)
	b.Messages, b.LeftOut = nil, true
	return x.write(ctx, b)
}
