package ship

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"understudy/internal/archive/ship"
	"understudy/internal/archive/shiptest"
)

// TestDamagedHere: a database that was lost knows of no copy. The bucket's
// good one stays when the disk has spoiled the segment since.
func TestDamagedHere(t *testing.T) {
	t.Parallel()
	shiptest.Each(t, func(t *testing.T, s *shiptest.Store) {
		r := newRig(t, s)
		r.add(t, 1, 5)
		seg := r.local(t)[0]
		whole, err := os.ReadFile(seg.Path)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.reader.Bucket.Put(t.Context(), seg.Name, bytes.NewReader(whole), seg.Size); err != nil {
			t.Fatal(err)
		}
		flipped := bytes.Clone(whole)
		flipped[r.refs[2].Offset+r.refs[2].Length/2] ^= 1
		w := r.shipper(t)
		for name, here := range map[string][]byte{"flipped": flipped, "cut between records": whole[:r.refs[4].Offset]} {
			if err := os.WriteFile(seg.Path, here, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := w.once(t.Context()); !errors.Is(err, ship.ErrCorrupt) {
				t.Errorf("%s: %v", name, err)
			}
			r.counts(t, 1, 1, 0)
			want, _ := ship.SumOf(bytes.NewReader(whole)) //nolint:errcheck // of memory
			if got, err := r.reader.Bucket.Sum(t.Context(), seg.Name, seg.Size); err != nil || got != want {
				t.Errorf("%s: the bucket's copy is another: %v", name, err)
			}
		}
		if err := os.WriteFile(seg.Path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
		r.index(t)
		work(t, w)
		r.counts(t, 0, 1, 1)
		r.readable(t)
	})
}
