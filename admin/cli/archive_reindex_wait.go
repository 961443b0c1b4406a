package cli

import (
	"fmt"
	"time"

	"understudy/internal/archive/ship"
	"understudy/internal/store"
)

const (
	lookEvery  = 500 * time.Millisecond
	stuckAfter = 90 * time.Second // without any progress of the indexer, which looks for dropped checkpoints every 15 s
)

// waitForIndex waits until the indexers have read the segments to their
// present end, and returns how many messages they have.
func waitForIndex(e *env, s *store.Store, segments []ship.Segment) (int64, error) {
	total, patience := int64(0), stuckAfter
	for _, seg := range segments {
		total += seg.Size
		if seg.Path == "" {
			patience = stuckAfter + ship.LongestListed
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
		for _, seg := range segments {
			h := have[seg.Name]
			at, messages = at+min(seg.Size, h.Indexed), messages+h.Records
			if !h.Sealed && (h.Indexed < seg.Size || !seg.Open) {
				left++
			}
		}
		bar.Set64(at) //nolint:errcheck // only shows
		if left == 0 {
			return messages, nil
		}
		if at != last {
			last, moved = at, time.Now()
		} else if time.Since(moved) > patience {
			return 0, fmt.Errorf("%d segments wait to be indexed, and nothing has moved for %s: is understudy-worker running on this host? (its log says why it waits; nothing is lost, it goes on by itself)", left, patience)
		}
		select {
		case <-e.ctx.Done():
			return 0, fmt.Errorf("wait for the indexer: %w (it goes on by itself)", e.ctx.Err())
		case <-tick.C:
		}
	}
}
