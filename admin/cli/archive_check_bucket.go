package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/schollz/progressbar/v3"

	"understudy/internal/archive/ship"
)

// shipped is what the bucket has, by its own list: segments and their bytes.
// What was verified there and is not there any more is a fault, and has no
// bytes. Where there is no bucket, or it does not answer, it is what the
// database says.
func (c *checker) shipped(e *env) (map[string]int64, error) {
	before, err := c.store.ShippedSegments(e.ctx)
	if err != nil || c.bucket == nil {
		return before, err
	}
	list, err := c.bucket.Segments(e.ctx)
	if err != nil {
		e.progress("the bucket is not asked what it has: %v", err)
		return before, e.ctx.Err()
	}
	c.report.BucketChecked = true
	there := make(map[string]int64, len(list))
	for _, seg := range list {
		there[seg.Name] = seg.Size
	}
	after, err := c.store.ShippedSegments(e.ctx) // without what has expired meanwhile
	if err != nil {
		return nil, err
	}
	for name, size := range after {
		if _, ok := before[name]; !ok {
			continue // came after the list
		}
		got, ok := there[name]
		switch {
		case !ok:
			there[name] = 0
			c.lost(name, "was shipped, but is not in the bucket any more")
		case got != size:
			c.lost(name, fmt.Sprintf("has %d bytes in the bucket, not the %d that were shipped", got, size))
		}
	}
	return there, nil
}

func (c *checker) lost(name, why string) {
	c.report.LostObjects++
	c.fault(fault{Segment: name, Why: why})
}

// compareCopy compares the bucket's copy of a segment that is on this host
// with it. It returns an error only when ctx ends, or the bucket fails.
func (c *checker) compareCopy(ctx context.Context, bar *progressbar.ProgressBar, s ship.Segment) error {
	f, err := os.Open(s.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // removed meanwhile
	}
	why := ""
	if err == nil {
		defer f.Close()
		why, err = c.difference(ctx, f, s)
	}
	bar.Add64(s.Size) //nolint:errcheck // only shows
	if err != nil {
		why = err.Error()
	}
	var bucket *ship.StoreError
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &bucket): // says nothing about the copy
		return err
	case why != "":
		c.report.BadCopies++
		c.fault(fault{Segment: s.Name, Why: why})
	}
	return nil
}

func (c *checker) difference(ctx context.Context, f *os.File, s ship.Segment) (string, error) {
	want, err := ship.SumOf(f)
	if err != nil {
		return "", err
	}
	got, err := c.archive.Bucket.Sum(ctx, s.Name, want.Size)
	if errors.Is(err, fs.ErrNotExist) {
		if _, here := os.Stat(s.Path); errors.Is(here, fs.ErrNotExist) {
			return "", nil // expired meanwhile
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		err = &ship.StoreError{Err: err}
	}
	if err != nil || got == want {
		return "", err
	}
	return "the bucket's copy differs from the segment on this host", nil
}
