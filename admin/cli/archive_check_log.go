package cli

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"runtime"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/sync/errgroup"

	"understudy/internal/archive/ship"
)

// readLog reads every segment, some at once.
func (c *checker) readLog(ctx context.Context, bar *progressbar.ProgressBar, list []ship.Segment) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, s := range list {
		g.Go(func() error { return c.readSegment(ctx, bar, s.Name) })
	}
	return g.Wait()
}

// readSegment returns an error only when ctx ends; whatever else is wrong is a
// fault.
func (c *checker) readSegment(ctx context.Context, bar *progressbar.ProgressBar, name string) error {
	r, err := c.archive.OpenSegment(ctx, name)
	if err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if errors.Is(err, fs.ErrNotExist) {
			c.gone[name] = true
			return nil
		}
		c.segments[name] = &logSegment{}
		c.fault(fault{Segment: name, Why: err.Error()})
		return nil
	}
	defer r.Close()
	seg, faults := &logSegment{}, []fault{}
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
		if err != nil {
			faults = append(faults, fault{Segment: name, Offset: at, Why: err.Error()})
			break
		}
		if c.deep {
			if err := rec.Check(); err != nil {
				faults = append(faults, fault{Segment: name, Offset: rec.Offset, Length: rec.Length, ID: rec.ID.String(), Why: err.Error()})
				continue
			}
		}
		seg.records = append(seg.records, logRecord{offset: rec.Offset, length: rec.Length, id: rec.ID, expired: c.expired(&rec.Envelope)})
	}
	seg.end, seg.open = r.Offset(), r.Open()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.segments[name] = seg
	c.report.Segments++
	c.report.Records += int64(len(seg.records))
	c.report.Bytes += seg.end
	c.report.Damaged += r.Damaged()
	c.report.NewerVersion = max(c.report.NewerVersion, r.Newer())
	for _, f := range faults {
		c.fault(f)
	}
	return nil
}
