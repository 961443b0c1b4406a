package ship

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"understudy/internal/archive"
	"understudy/internal/archive/ship"
	"understudy/internal/archive/shiptest"
)

// TestLostObject: what vanished from the bucket while the local segment was
// still there is sent again; the local one stays until then.
func TestLostObject(t *testing.T) {
	t.Parallel()
	shiptest.Each(t, func(t *testing.T, s *shiptest.Store) {
		r := newRig(t, s)
		r.add(t, 2, 3)
		r.index(t)
		w := r.shipper(t)
		w.KeepLocal = time.Hour
		work(t, w)
		if err := r.reader.Bucket.Delete(t.Context(), r.local(t)[0].Name); err != nil {
			t.Fatal(err)
		}
		w.KeepLocal = 0
		if err := w.once(t.Context()); !errors.Is(err, ship.ErrCorrupt) {
			t.Errorf("a run: %v", err)
		}
		r.counts(t, 1, 1, 1)
		r.readable(t)
		work(t, w)
		r.counts(t, 0, 2, 2)
		r.readable(t)
	})
}

// TestExpiry: expired segments leave the bucket, also when it was away at
// that time, and are never sent.
func TestExpiry(t *testing.T) {
	t.Parallel()
	shiptest.Each(t, func(t *testing.T, s *shiptest.Store) {
		r := newRig(t, s)
		r.add(t, 3, 1)
		r.index(t)
		w := r.shipper(t)
		names := r.local(t)
		r.expire(t, names[0].Name)
		work(t, w)
		r.counts(t, 1, 2, 2)
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		r.expire(t, names[1].Name)
		if err := archive.RemoveSealed(r.dir, names[0].Name); err != nil {
			t.Fatal(err)
		}
		w.wait = 0
		work(t, w)
		s.Start(t)
		work(t, w)
		r.counts(t, 0, 1, 2)
		if _, err := r.store.Pool.Exec(t.Context(), `UPDATE segment_shipping SET removed_at = removed_at - interval '1 hour' WHERE removed_at IS NOT NULL`); err != nil {
			t.Fatal(err)
		}
		work(t, w)
		r.counts(t, 0, 1, 1)
		metric(t, "expired", w.metrics.expired, 2)
		r.refs[0], r.refs[1] = r.refs[2], r.refs[2]
		if known, err := r.store.Shipments(t.Context()); err != nil || len(known) != 1 {
			t.Errorf("known: %v, %v", known, err)
		}
	})
}

// TestForgetful: with the table of shipments lost, all is found again, and
// nothing is sent that is there.
func TestForgetful(t *testing.T) {
	t.Parallel()
	shiptest.Each(t, func(t *testing.T, s *shiptest.Store) {
		r := newRig(t, s)
		r.add(t, 3, 2)
		w := r.shipper(t)
		w.KeepLocal = time.Hour
		work(t, w)
		info, err := os.Stat(filepath.Join(s.Directory, mustKey(t, r.shipped(t)[0].Name)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.store.Pool.Exec(t.Context(), `DELETE FROM segment_shipping`); err != nil {
			t.Fatal(err)
		}
		r.index(t)
		w.KeepLocal = 0
		work(t, w)
		r.counts(t, 0, 3, 3)
		r.readable(t)
		after, err := os.Stat(filepath.Join(s.Directory, mustKey(t, r.shipped(t)[0].Name)))
		if err != nil || !after.ModTime().Equal(info.ModTime()) || !os.SameFile(info, after) {
			t.Errorf("the object was written again: %v", err)
		}
	})
}

// TestStopped: a run that is cut off by the worker's end returns at once and
// is no trouble of the store.
func TestStopped(t *testing.T) {
	t.Parallel()
	r := newRig(t, shiptest.Directory(t))
	r.add(t, 3, 2)
	w := r.shipper(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.once(ctx); !errors.Is(err, context.Canceled) || w.failures != 0 {
		t.Errorf("%v, %d failures", err, w.failures)
	}
}

// TestNoBucket: without a bucket nothing is sent, and what expired is
// forgotten once its segment is gone.
func TestNoBucket(t *testing.T) {
	t.Parallel()
	r := newRig(t, shiptest.Directory(t))
	r.add(t, 2, 1)
	r.index(t)
	w := r.shipper(t)
	w.Bucket = nil
	names := r.local(t)
	for _, s := range names {
		r.expire(t, s.Name)
	}
	if err := archive.RemoveSealed(r.dir, names[0].Name); err != nil {
		t.Fatal(err)
	}
	if _, err := r.store.Pool.Exec(t.Context(), `UPDATE segment_shipping SET removed_at = removed_at - interval '1 hour'`); err != nil {
		t.Fatal(err)
	}
	work(t, w)
	known, err := r.store.Shipments(t.Context())
	if _, ok := known[names[1].Name]; err != nil || len(known) != 1 || !ok {
		t.Errorf("known: %v, %v", known, err)
	}
	r.counts(t, 1, 0, 0)
}

// TestTwoGateways: an upload that another gateway tries again long after its
// first try is nobody's to give up.
func TestTwoGateways(t *testing.T) {
	t.Parallel()
	r := newRig(t, shiptest.Directory(t))
	r.add(t, 1, 1)
	seg, ctx := r.local(t)[0], t.Context()
	f, err := os.Open(seg.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sum, err := ship.SumOf(f)
	if err != nil {
		t.Fatal(err)
	}
	other := r.shipper(t)
	other.Dir = t.TempDir()
	begin := func() {
		t.Helper()
		if ok, err := r.store.BeginShipping(ctx, seg.Name, sum.Size, sum.SHA256[:]); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	begin()
	if _, err := r.store.Pool.Exec(ctx, `UPDATE segment_shipping SET begun_at = now() - interval '3 hours'`); err != nil {
		t.Fatal(err)
	}
	begin() // the store is back
	work(t, other)
	if ok, err := r.store.FinishShipping(ctx, seg.Name); !ok || err != nil {
		t.Errorf("the other gateway's run: finished %v, %v", ok, err)
	}
	if _, err := r.store.Pool.Exec(ctx, `UPDATE segment_shipping SET begun_at = now() - interval '3 hours', verified_at = NULL`); err != nil {
		t.Fatal(err)
	}
	work(t, other) // now it is nobody's, and nothing is in the bucket
	if known, err := r.store.Shipments(ctx); err != nil || len(known) != 0 {
		t.Errorf("known: %v, %v", known, err)
	}
}
