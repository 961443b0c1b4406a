package cli

import (
	"context"
	"fmt"
	"math/rand/v2"

	"understudy/internal/archive"
	"understudy/internal/archive/indexed"
	"understudy/internal/mime"
	"understudy/internal/store"
)

// words sees of the records of a segment, many at a time, that the index finds
// their messages: by what the envelope says, and some or all of them by all
// their words.
type words struct {
	c        *checker
	seg      *logSegment
	indexed  int64 // bytes of the segment that were in the index before it was read
	decoder  *mime.Decoder
	messages []store.IndexedMessage
	size     int   // bytes of their text
	apart    int64 // of messages, those with all words
}

// As many as the indexer writes at once, but with less text: several segments
// are read at once.
const (
	compareMessages = 1000
	compareBytes    = 4 << 20
	compareOne      = 20 // of so many is taken apart, unless all are
)

// add takes a record, and perhaps reads its body.
func (w *words) add(ctx context.Context, rec *archive.Record) error {
	if rec.Offset >= w.indexed {
		return nil
	}
	m := indexed.Envelope(rec)
	if w.c.words || rand.N(compareOne) == 0 {
		if w.decoder == nil {
			w.decoder = mime.NewDecoder()
		}
		m, _ = indexed.Message(rec, w.decoder) // what cannot be decoded is not in the index either
		w.apart++
	}
	w.messages, w.size = append(w.messages, m), w.size+len(m.Text)+len(m.Subject)+len(m.FromHeader)+len(m.ToHeader)+len(m.CcHeader)
	if len(w.messages) < compareMessages && w.size < compareBytes {
		return nil
	}
	return w.ask(ctx)
}

// ask compares what was added.
func (w *words) ask(ctx context.Context) error {
	if len(w.messages) == 0 {
		return nil
	}
	unfound, err := w.c.store.Unfound(ctx, w.messages)
	if err != nil {
		return err
	}
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	for _, m := range w.messages {
		if n := unfound[m.ID]; n > 0 {
			w.seg.lacks = true
			w.c.report.RowsWithoutWords++
			w.c.fault(fault{Segment: m.Segment, Offset: m.Offset, Length: m.Length, ID: m.ID.String(),
				Why: fmt.Sprintf("in the index, but %d of its words do not find it", n)})
		}
	}
	w.c.report.Compared += int64(len(w.messages))
	w.c.report.ComparedWhole += w.apart
	w.messages, w.size, w.apart = w.messages[:0], 0, 0
	return nil
}
