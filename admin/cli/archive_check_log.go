package cli

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"math"
	"runtime"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/sync/errgroup"

	"understudy/internal/archive"
	"understudy/internal/archive/indexed"
	"understudy/internal/archive/ship"
	"understudy/internal/store"
)

// readLog reads every segment, some at once.
func (c *checker) readLog(ctx context.Context, bar *progressbar.ProgressBar, list []ship.Segment) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, s := range list {
		g.Go(func() error { return c.readSegment(ctx, bar, s.Name) })
		if s.Shipped && s.Path != "" {
			g.Go(func() error { return c.compareCopy(ctx, bar, s) })
		}
	}
	return g.Wait()
}

// readSegment returns an error only when ctx ends, or the database or the
// bucket fails: then nothing can be said. Whatever else is wrong is a fault.
func (c *checker) readSegment(ctx context.Context, bar *progressbar.ProgressBar, name string) error {
	r, err := c.archive.OpenSegment(ctx, name)
	var bucket *ship.StoreError
	if errors.As(err, &bucket) {
		return err
	}
	if err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if errors.Is(err, fs.ErrNotExist) {
			c.gone[name] = true
			return nil
		}
		c.segments[name] = &logSegment{unreadable: true}
		c.report.Unreadable++
		c.fault(fault{Segment: name, Why: err.Error()})
		return nil
	}
	defer r.Close()
	seg, faults, ages := &logSegment{}, []fault{}, ages{c: c}
	words := words{c: c, seg: seg, indexed: c.before[name].Indexed}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		at, damaged := r.Offset(), r.Damaged()
		rec, err := r.Next()
		if d := r.Damaged() - damaged; d > 0 {
			faults = append(faults, fault{Segment: name, Offset: at, Length: d, Why: "damaged: no record can be read here"})
		}
		bar.Add64(r.Offset() - at) //nolint:errcheck // only shows
		if err == io.EOF {
			break
		}
		var encrypted *archive.EncryptedError
		if errors.As(err, &encrypted) { // whole, as far as one sees without the key
			seg.records = append(seg.records, logRecord{offset: encrypted.Ref.Offset, length: encrypted.Ref.Length, id: encrypted.ID, unread: true})
			seg.unchecked++
			continue
		}
		if errors.As(err, &bucket) {
			return err
		}
		if err != nil {
			faults = append(faults, fault{Segment: name, Offset: at, Why: err.Error()})
			seg.unreadable = true
			break
		}
		if err := words.add(ctx, rec); err != nil {
			return err
		}
		if c.deep {
			if err := rec.Check(); err != nil {
				faults = append(faults, fault{Segment: name, Offset: rec.Offset, Length: rec.Length, ID: rec.ID.String(), Why: err.Error()})
				continue
			}
		}
		m := indexed.Envelope(rec)
		boxes, digest := store.WantedRow(&m)
		seg.records = append(seg.records, logRecord{offset: rec.Offset, length: rec.Length, id: rec.ID,
			mailboxes: uint16(min(boxes, math.MaxUint16)), digest: digest})
		if err := ages.add(ctx, seg.records, &rec.Envelope); err != nil {
			return err
		}
	}
	if err := errors.Join(ages.ask(ctx, seg.records), words.ask(ctx)); err != nil {
		return err
	}
	seg.end, seg.open = r.Offset(), r.Open()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.segments[name] = seg
	c.report.Segments++
	if seg.unreadable {
		c.report.Unreadable++
	}
	c.report.Records += int64(len(seg.records))
	c.report.Encrypted += seg.unchecked
	c.report.Bytes += seg.end
	c.report.Damaged += r.Damaged()
	c.report.NewerVersion = max(c.report.NewerVersion, r.Newer())
	for _, f := range faults {
		c.fault(f)
	}
	return nil
}

// ages finds out which records of a segment may be gone from the index, many
// at a time.
type ages struct {
	c         *checker
	records   []int // by mailbox of each
	mailboxes []string
	received  []time.Time
}

const (
	askAtOnce = 5000
	youngest  = 24 * time.Hour // no retention is shorter
)

// add takes the last of records; its envelope is e.
func (a *ages) add(ctx context.Context, records []logRecord, e *archive.Envelope) error {
	if a.c.store == nil || a.c.begin.Sub(e.Received) < youngest {
		return nil
	}
	boxes := e.Mailboxes
	if len(boxes) == 0 {
		boxes = []string{""}
	}
	for _, m := range boxes {
		a.records, a.mailboxes, a.received = append(a.records, len(records)-1), append(a.mailboxes, m), append(a.received, e.Received)
	}
	if len(a.records) < askAtOnce {
		return nil
	}
	return a.ask(ctx, records)
}

// ask marks the records that have expired for all their mailboxes.
func (a *ages) ask(ctx context.Context, records []logRecord) error {
	if len(a.records) == 0 {
		return nil
	}
	kept, err := a.c.store.Kept(ctx, a.c.begin, a.mailboxes, a.received)
	if err != nil {
		return err
	}
	for _, i := range a.records {
		records[i].expired = true
	}
	for n, i := range a.records {
		if kept[n] {
			records[i].expired = false
		}
	}
	a.records, a.mailboxes, a.received = a.records[:0], a.mailboxes[:0], a.received[:0]
	return nil
}
