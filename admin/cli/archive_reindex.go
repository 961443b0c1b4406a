package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"golang.org/x/sync/errgroup"

	"understudy/internal/archive"
	"understudy/internal/archive/ship"
	"understudy/internal/store"
)

type archiveReindex struct {
	All     bool `xor:"what" required:"" help:"Drop the index of every segment on this host and in the bucket, and build it anew."`
	Missing bool `xor:"what" required:"" help:"Add what the index lacks: messages, and the mailboxes and words of those that it has."`
	Local   bool `help:"Only the segments on this host; nothing is downloaded from the bucket."`
	NoWait  bool `help:"Do not wait until the worker is done."`
}

// Help is shown by --help.
func (c *archiveReindex) Help() string {
	return `The worker reads the segments again: those of this host at once, those that are only in the bucket within some minutes, by the worker that leads.
--missing first reads every segment itself to see what the index lacks, those in the bucket too, and looks up each word of each message: that takes about as long
as building the index anew, but drops nothing. Segments that are on other gateways alone stay as they are.`
}

type reindexResult struct {
	Segments int   `json:"segments"`
	Shipped  int   `json:"shipped_segments"` // of them, only in the bucket
	Dropped  int64 `json:"dropped_rows"`
	Missing  int64 `json:"missing_records"`
	Lacking  int64 `json:"lacking_rows"`       // without some mailboxes, or without some words
	Messages int64 `json:"messages,omitempty"` // in the index of these segments when all was done
	Done     bool  `json:"done"`               // false: the worker goes on by itself
}

// Run has the workers' indexers read segments again.
func (c *archiveReindex) Run(e *env) error {
	s, err := e.openUnbounded()
	if err != nil {
		return err
	}
	reader, err := e.settings.archive()
	if err != nil {
		return err
	}
	var result reindexResult
	var segments []ship.Segment
	if c.All {
		segments, err = c.all(e, s, reader, &result)
	} else {
		segments, err = c.missing(e, s, reader, &result)
	}
	if err != nil {
		return err
	}
	result.Segments = len(segments)
	for _, seg := range segments {
		if seg.Path == "" && seg.Shipped {
			result.Shipped++
		}
	}
	if c.NoWait {
		return e.print(result, "%d segments to be indexed again; %d rows dropped, %d records were missing, %d rows lacked mailboxes or words. The worker goes on by itself",
			result.Segments, result.Dropped, result.Missing, result.Lacking)
	}
	if result.Messages, err = waitForIndex(e, s, segments); err != nil {
		return err
	}
	result.Done = true
	return e.print(result, "%d segments indexed again: %d messages; %d rows had been dropped, %d records were missing, %d rows lacked mailboxes or words",
		result.Segments, result.Messages, result.Dropped, result.Missing, result.Lacking)
}

// all drops the index of everything that can be read, and of what is lost.
func (c *archiveReindex) all(e *env, s *store.Store, r ship.Reader, result *reindexResult) ([]ship.Segment, error) {
	all, err := r.Segments(e.ctx)
	if err != nil {
		return nil, err
	}
	names, gone, err := c.lost(e, s, r, all)
	if err != nil {
		return nil, err
	}
	var again []ship.Segment
	for _, seg := range all {
		if !c.Local || seg.Path != "" {
			again, names = append(again, seg), append(names, seg.Name)
		}
	}
	if err := readable(e, r, again); err != nil {
		return nil, fmt.Errorf("nothing is dropped, because it could not be built anew: %w", err)
	}
	if result.Dropped, err = s.DropIndex(e.ctx, names); err != nil {
		return nil, err
	}
	for _, name := range gone {
		if err := s.ForgetShipping(e.ctx, name); err != nil {
			return nil, err
		}
	}
	return again, nil
}

const openAtOnce = 4 // segments, of up to 16 MiB of memory each

// readable sees by the first record of each segment that there is a key for
// what is encrypted: no segment is written for more than one list of
// recipients.
func readable(e *env, r ship.Reader, segments []ship.Segment) error {
	bar := e.bar(int64(len(segments)), "trying the keys", false)
	defer bar.Finish() //nolint:errcheck // only shows
	g, ctx := errgroup.WithContext(e.ctx)
	g.SetLimit(openAtOnce)
	for _, seg := range segments {
		g.Go(func() error {
			defer bar.Add(1) //nolint:errcheck // only shows
			if err := ctx.Err(); err != nil {
				return err
			}
			s, err := r.OpenSegment(ctx, seg.Name)
			if errors.Is(err, fs.ErrNotExist) { // expired meanwhile
				return nil
			}
			if err != nil {
				return err
			}
			defer s.Close()
			if _, err := s.Next(); err != io.EOF {
				return err
			}
			return nil // empty, or damaged from end to end
		})
	}
	return g.Wait()
}

// lost are the segments, by the index, that are neither here nor in the bucket
// nor with another gateway: nothing can be read for their rows any more. Of
// those that have expired the index may have rows, but no checkpoint. Those
// that the bucket once had are gone from it.
func (c *archiveReindex) lost(e *env, s *store.Store, r ship.Reader, all []ship.Segment) (lost, gone []string, err error) {
	here := map[string]bool{}
	for _, seg := range all {
		here[seg.Name] = true
	}
	named, err := s.RowSegments(e.ctx)
	if err != nil {
		return nil, nil, err
	}
	shipped, err := s.ShippedSegments(e.ctx)
	if err != nil {
		return nil, nil, err
	}
	known, err := s.SegmentOffsets(e.ctx)
	if err != nil {
		return nil, nil, err
	}
	for n := range known {
		named[n] = true
	}
	for n := range named {
		at := known[n]
		_, isShipped := shipped[n]
		switch {
		case here[n], isShipped && r.Bucket == nil:
		case isShipped: // since the list was made; or lost by the bucket
			_, err := r.Bucket.Size(e.ctx, n)
			if errors.Is(err, fs.ErrNotExist) {
				lost, gone = append(lost, n), append(gone, n)
			} else if err != nil {
				return nil, nil, err
			}
		case at.Host == "" || at.Host == e.settings.GatewayName():
			lost = append(lost, n)
		}
	}
	return lost, gone, nil
}

// missing finds the segments of which the index lacks something.
func (c *archiveReindex) missing(e *env, s *store.Store, r ship.Reader, result *reindexResult) (out []ship.Segment, err error) {
	check := &checker{words: true, archive: r, bucket: r.Bucket, store: s}
	if c.Local {
		check.archive.Bucket = nil
	}
	names, err := check.check(e)
	if err != nil {
		return nil, err
	}
	if check.report.Encrypted > 0 {
		return nil, fmt.Errorf("see what the index lacks: %d records are %w", check.report.Encrypted, archive.ErrEncrypted)
	}
	if n := check.report.RowsWithoutRecord + check.report.RowsDiffering; n > 0 {
		e.progress("%d rows of the index are of no record, or not as their records are: these stay; verify says what to do", n)
	}
	if check.report.Unreadable > 0 {
		e.progress("%d segments cannot be read, and are left out; verify says which, and why", check.report.Unreadable)
	}
	result.Missing, result.Lacking = check.report.RecordsWithoutRow, check.report.RowsWithoutBox+check.report.RowsWithoutWords
	segments, err := check.archive.Segments(e.ctx)
	if err != nil {
		return nil, err
	}
	wanted := map[string]bool{}
	for _, n := range names {
		wanted[n] = true
	}
	for _, seg := range segments {
		// What nobody has indexed yet is waited for too.
		if at := check.before[seg.Name]; wanted[seg.Name] || !at.Sealed && !seg.Open && at.Indexed < seg.Size {
			out = append(out, seg)
		}
	}
	return out, s.ForgetCheckpoints(e.ctx, names)
}
