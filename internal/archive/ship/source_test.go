package ship_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"testing"

	"understudy/internal/archive"
	"understudy/internal/archive/ship"
	"understudy/internal/archive/shiptest"
)

// TestSources: the indexer finds each segment in one of the two sources, and
// reads the same from both.
func TestSources(t *testing.T) {
	t.Parallel()
	shiptest.Each(t, func(t *testing.T, s *shiptest.Store) {
		r := newRig(t, s, 1000, 100_000, 3_000_000)
		r.put(t)
		local, shipped := ship.Local(r.reader), ship.NewShipped(r.reader)
		names := func(s ship.Source, want int) {
			t.Helper()
			list, err := s.Segments(t.Context())
			if err != nil || len(list) != want || want == 1 && list[0].Size != r.segment.Size {
				t.Errorf("%T lists %v, %v; want %d", s, list, err, want)
			}
		}
		read := func(s ship.Source, want error) {
			t.Helper()
			x, err := s.OpenSegment(t.Context(), r.segment.Name)
			if !errors.Is(err, want) {
				t.Fatalf("%T: %v, want %v", s, err, want)
			}
			if err != nil {
				return
			}
			defer x.Close()
			n := 0
			for ; ; n++ {
				if _, err := x.Next(); err == io.EOF {
					break
				} else if err != nil {
					t.Fatal(err)
				}
			}
			if n != len(r.refs) || x.Damaged() != 0 || x.Open() {
				t.Errorf("%T: %d records, %d damaged bytes", s, n, x.Damaged())
			}
		}
		names(local, 1)
		names(shipped, 0)
		read(local, nil)
		if err := os.Remove(r.segment.Path); err != nil {
			t.Fatal(err)
		}
		names(local, 0)
		names(shipped, 1)
		read(local, fs.ErrNotExist)
		read(shipped, nil)
		if err := r.bucket.Delete(t.Context(), r.segment.Name); err != nil {
			t.Fatal(err)
		}
		names(shipped, 1) // the list is not asked for each time
		read(shipped, fs.ErrNotExist)
		names(shipped, 0)
		if _, err := shipped.OpenSegment(t.Context(), "nonsense"); !errors.Is(err, archive.ErrName) {
			t.Errorf("nonsense: %v", err)
		}
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		if _, err := ship.NewShipped(r.reader).Segments(t.Context()); err == nil {
			t.Error("a store that is away lists")
		}
	})
}
