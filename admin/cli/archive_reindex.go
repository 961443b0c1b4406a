package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"understudy/internal/archive"
	"understudy/internal/archive/ship"
	"understudy/internal/store"
)

type archiveReindex struct {
	All     bool `xor:"what" required:"" help:"Drop the index of every segment on this host and in the bucket, and build it anew."`
	Missing bool `xor:"what" required:"" help:"Add the messages that the index lacks."`
	Local   bool `help:"Only the segments on this host; nothing is downloaded from the bucket."`
	NoWait  bool `help:"Do not wait until the worker is done."`
}

// Help is shown by --help.
func (c *archiveReindex) Help() string {
	return `The worker reads the segments again: those of this host at once, those that are only in the bucket within some minutes, by the worker that leads.
--missing first reads every segment itself to see what the index lacks, those in the bucket too. Segments that are on other gateways alone stay as they are.`
}

type reindexResult struct {
	Segments int   `json:"segments"`
	Shipped  int   `json:"shipped_segments"` // of them, only in the bucket
	Dropped  int64 `json:"dropped_rows"`
	Missing  int64 `json:"missing_records"`
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
		return e.print(result, "%d segments to be indexed again; %d rows dropped, %d records were missing. The worker goes on by itself", result.Segments, result.Dropped, result.Missing)
	}
	if result.Messages, err = waitForIndex(e, s, segments); err != nil {
		return err
	}
	result.Done = true
	return e.print(result, "%d segments indexed again: %d messages; %d rows had been dropped, %d records were missing",
		result.Segments, result.Messages, result.Dropped, result.Missing)
}

// all drops the index of everything that can be read, and of what is lost.
func (c *archiveReindex) all(e *env, s *store.Store, r ship.Reader, result *reindexResult) ([]ship.Segment, error) {
	all, err := r.Segments(e.ctx)
	if err != nil {
		return nil, err
	}
	if err := readable(r, all); err != nil {
		return nil, fmt.Errorf("nothing is dropped, because it could not be built anew: %w", err)
	}
	names, err := c.lost(e, s, all)
	if err != nil {
		return nil, err
	}
	var again []ship.Segment
	for _, seg := range all {
		if !c.Local || seg.Path != "" {
			again, names = append(again, seg), append(names, seg.Name)
		}
	}
	result.Dropped, err = s.DropIndex(e.ctx, names)
	return again, err
}

// readable says by the newest segment here whether there is a key for what is
// encrypted.
func readable(r ship.Reader, segments []ship.Segment) error {
	for _, seg := range slices.Backward(segments) {
		if seg.Path == "" || seg.Size == 0 {
			continue
		}
		s, err := archive.OpenSegment(r.Dir, seg.Name, r.Identities...)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		defer s.Close()
		if _, err := s.Next(); errors.Is(err, archive.ErrEncrypted) {
			return err
		}
		return nil
	}
	return nil
}

// lost are the indexed segments that are neither here nor in the bucket nor
// with another gateway: nothing can be read for their rows any more.
func (c *archiveReindex) lost(e *env, s *store.Store, all []ship.Segment) (out []string, err error) {
	here := map[string]bool{}
	for _, seg := range all {
		here[seg.Name] = true
	}
	shipped, err := s.ShippedSegments(e.ctx)
	if err != nil {
		return nil, err
	}
	known, err := s.SegmentOffsets(e.ctx)
	if err != nil {
		return nil, err
	}
	for n, at := range known {
		if !here[n] && !shipped[n] && (at.Host == "" || at.Host == e.settings.GatewayName()) {
			out = append(out, n)
		}
	}
	return out, nil
}

// missing finds the segments that have records without a row.
func (c *archiveReindex) missing(e *env, s *store.Store, r ship.Reader, result *reindexResult) (out []ship.Segment, err error) {
	check := &checker{archive: r, bucket: r.Bucket, store: s}
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
	result.Missing = check.report.RecordsWithoutRow
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
