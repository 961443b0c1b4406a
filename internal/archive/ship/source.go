package ship

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"understudy/internal/archive"
)

// listPause is for each page (1,000 segments) of the bucket's list: a list of
// 13,000 segments, 90 days of a busy gateway, is asked for every 4 minutes.
const listPause = 20 * time.Second

// LongestListed is how old a list of the bucket may be that the indexer goes by.
const LongestListed = 10 * time.Minute

// Source is where the indexer finds segments and reads them.
type Source interface {
	// Segments lists them, sorted by name and so by time.
	Segments(ctx context.Context) ([]archive.Segment, error)
	// OpenSegment opens one; fs.ErrNotExist says that it has gone meanwhile.
	OpenSegment(ctx context.Context, name string) (*archive.SegmentReader, error)
}

// Local is a reader's archive directory on this host, without its bucket.
type Local Reader

// Segments implements Source.
func (r Local) Segments(context.Context) ([]archive.Segment, error) {
	return archive.Segments(r.Dir)
}

// OpenSegment implements Source.
func (r Local) OpenSegment(_ context.Context, name string) (*archive.SegmentReader, error) {
	return archive.OpenSegment(r.Dir, name, r.Identities...)
}

// Shipped are the segments that are in the bucket and not on this host. The
// bucket is asked for its list from time to time only. Its methods are for one
// goroutine.
type Shipped struct {
	reader Reader
	pause  time.Duration
	listed []archive.Segment
	next   time.Time // when the bucket is asked again
}

// NewShipped makes the source of a reader that has a bucket.
func NewShipped(r Reader) *Shipped { return &Shipped{reader: r, pause: listPause} }

// Segments implements Source.
func (s *Shipped) Segments(ctx context.Context) ([]archive.Segment, error) {
	if now := time.Now(); !now.Before(s.next) {
		s.next = now.Add(s.pause)
		listed, err := s.reader.Bucket.Segments(ctx)
		if err != nil {
			return nil, err
		}
		s.listed = listed
		s.next = now.Add(min(LongestListed, s.pause*time.Duration(1+len(listed)/listPage)))
	}
	local, err := archive.Segments(s.reader.Dir)
	if err != nil {
		return nil, err
	}
	here := make(map[string]bool, len(local))
	for _, seg := range local {
		here[seg.Name] = true
	}
	return slices.DeleteFunc(slices.Clone(s.listed), func(seg archive.Segment) bool { return here[seg.Name] }), nil
}

// OpenSegment implements Source.
func (s *Shipped) OpenSegment(ctx context.Context, name string) (*archive.SegmentReader, error) {
	r, err := s.reader.OpenSegment(ctx, name)
	if errors.Is(err, fs.ErrNotExist) { // expired: not to be asked for again
		s.listed = slices.DeleteFunc(s.listed, func(seg archive.Segment) bool { return seg.Name == name })
	}
	return r, err
}
