package cli

import (
	"fmt"
	"time"

	"understudy/internal/archive"
	"understudy/internal/archive/ship"
	"understudy/internal/store"
)

const (
	lookEvery  = 500 * time.Millisecond
	stuckAfter = 90 * time.Second // without any progress of the indexer, which looks for dropped checkpoints every 15 s
)

type archiveReindex struct {
	All     bool `xor:"what" required:"" help:"Drop the index of every segment on this host and build it anew."`
	Missing bool `xor:"what" required:"" help:"Add the messages that the index lacks."`
	NoWait  bool `help:"Do not wait until the worker is done."`
}

type reindexResult struct {
	Segments int   `json:"segments"`
	Dropped  int64 `json:"dropped_rows"`
	Missing  int64 `json:"missing_records"`
	Messages int64 `json:"messages,omitempty"` // in the index of these segments when all was done
	Done     bool  `json:"done"`               // false: the worker goes on by itself
}

// Run has the worker's indexer read segments again.
func (c *archiveReindex) Run(e *env) error {
	s, err := e.openUnbounded()
	if err != nil {
		return err
	}
	var result reindexResult
	names := []string{}
	if c.All {
		list, err := archive.Segments(e.settings.ArchiveDirectory)
		if err != nil {
			return err
		}
		for _, seg := range list {
			names = append(names, seg.Name)
		}
		if names, err = c.withLost(e, s, names); err != nil {
			return err
		}
		if result.Dropped, err = s.DropIndex(e.ctx, names); err != nil {
			return err
		}
	} else {
		check := &checker{archive: ship.Reader{Dir: e.settings.ArchiveDirectory}}
		if names, err = check.check(e, s); err != nil {
			return err
		}
		result.Missing = check.report.RecordsWithoutRow
		if err := s.ForgetCheckpoints(e.ctx, names); err != nil {
			return err
		}
	}
	result.Segments = len(names)
	if c.NoWait {
		return e.print(result, "%d segments to be indexed again; %d rows dropped, %d records were missing. The worker goes on by itself", result.Segments, result.Dropped, result.Missing)
	}
	if result.Messages, err = waitForIndex(e, s, names); err != nil {
		return err
	}
	result.Done = true
	return e.print(result, "%d segments indexed again: %d messages; %d rows had been dropped, %d records were missing",
		result.Segments, result.Messages, result.Dropped, result.Missing)
}

// withLost adds the indexed segments that are neither here nor in the bucket:
// nothing can be read for their rows any more.
func (c *archiveReindex) withLost(e *env, s *store.Store, names []string) ([]string, error) {
	here := map[string]bool{}
	for _, n := range names {
		here[n] = true
	}
	shipped, err := s.ShippedSegments(e.ctx)
	if err != nil {
		return nil, err
	}
	known, err := s.SegmentOffsets(e.ctx)
	if err != nil {
		return nil, err
	}
	for n := range known {
		if !here[n] && !shipped[n] {
			names = append(names, n)
		}
	}
	return names, nil
}

// waitForIndex waits until the indexer has read the segments to their present
// end, and returns how many messages they have.
func waitForIndex(e *env, s *store.Store, names []string) (int64, error) {
	wanted := map[string]int64{}
	list, err := archive.Segments(e.settings.ArchiveDirectory)
	if err != nil {
		return 0, err
	}
	total := int64(0)
	for _, n := range names {
		wanted[n] = 0
	}
	for _, seg := range list {
		if _, ok := wanted[seg.Name]; ok {
			wanted[seg.Name] = seg.Size
			total += seg.Size
		}
	}
	bar := e.bar(total, "indexing (the worker)", true)
	defer bar.Finish() //nolint:errcheck // only shows
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	last, moved := int64(-1), time.Now()
	for {
		have, err := s.SegmentOffsets(e.ctx)
		if err != nil {
			return 0, err
		}
		at, messages, left := int64(0), int64(0), 0
		for n, size := range wanted {
			at, messages = at+min(size, have[n].Indexed), messages+have[n].Records
			if have[n].Indexed < size {
				left++
			}
		}
		bar.Set64(at) //nolint:errcheck // only shows
		if left == 0 {
			return messages, nil
		}
		if at != last {
			last, moved = at, time.Now()
		} else if time.Since(moved) > stuckAfter {
			return 0, fmt.Errorf("%d segments wait to be indexed, and nothing has moved for %s: is understudy-worker running on this host? (its log says why it waits; nothing is lost, it goes on by itself)", left, stuckAfter)
		}
		select {
		case <-e.ctx.Done():
			return 0, fmt.Errorf("wait for the indexer: %w (it goes on by itself)", e.ctx.Err())
		case <-tick.C:
		}
	}
}
