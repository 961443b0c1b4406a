package ship

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"understudy/internal/archive"
	"understudy/internal/archive/ship"
	"understudy/internal/store"
)

const (
	tries = 3 // of an upload whose copy differs, in one run

	// A row of an expired segment outlives its object for this long, so that
	// an upload that was under way elsewhere is found and deleted too.
	tombstone = 10 * time.Minute
	// An unfinished upload this old is nobody's.
	abandoned = 2 * timeout
)

// run does what is to be done. One segment that cannot be read holds up no
// other; the store's trouble ends the run.
func (w *world) run(ctx context.Context) error {
	var errs []error
	for _, step := range []struct {
		names []string
		do    func(ctx context.Context, name string) error
	}{
		{slices.Sorted(maps.Keys(w.known)), w.tidy}, {w.order, w.ship}, {w.order, w.free},
	} {
		for _, name := range step.names {
			if err := ctx.Err(); err != nil {
				return err
			}
			err := step.do(ctx, name)
			if err != nil && ctx.Err() == nil {
				w.metrics.errors.WithLabelValues(kindOf(err)).Inc()
			}
			if errors.Is(err, errStore) {
				return errors.Join(append(errs, err)...)
			}
			if err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// tidy deletes the objects of expired segments, and finds out about uploads
// that nobody goes on with because their segment is no longer here.
func (w *world) tidy(ctx context.Context, name string) error {
	k := w.known[name]
	_, here := w.local[name]
	switch {
	case k.Removed != nil:
		if err := w.Bucket.Delete(ctx, name); err != nil {
			return fmt.Errorf("%w: %w", errStore, err)
		}
		if here || time.Since(*k.Removed) < tombstone {
			return nil
		}
		w.metrics.expired.Inc()
		return w.Store.ForgetShipping(ctx, name)
	case k.Verified == nil && !here && time.Since(k.Begun) > abandoned:
		there, err := w.Bucket.Sum(ctx, name, k.Size)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return w.Store.ForgetShipping(ctx, name)
		case err != nil:
			return fmt.Errorf("%w: %w", errStore, err)
		case there == sumOf(k):
			_, err := w.Store.FinishShipping(ctx, name)
			return err
		}
		return fmt.Errorf("segment %s is in the bucket alone: %w", name, ship.ErrCorrupt)
	}
	return nil
}

// forget drops the rows of expired segments that were never sent, where there
// is no bucket. (Those of others wait for the bucket to be configured again.)
func (w *world) forget(ctx context.Context) error {
	var errs []error
	for name, k := range w.known {
		_, here := w.local[name]
		if k.Removed != nil && len(k.SHA256) == 0 && !here && time.Since(*k.Removed) > tombstone {
			errs = append(errs, w.Store.ForgetShipping(ctx, name))
		}
	}
	return errors.Join(errs...)
}

// ship uploads one segment and verifies the copy.
func (w *world) ship(ctx context.Context, name string) error {
	if !w.due(name) {
		return nil
	}
	begin := time.Now()
	f, err := os.Open(w.local[name].Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // expired meanwhile
	}
	if err != nil {
		return fmt.Errorf("ship segment: %w", err)
	}
	defer f.Close()
	want, err := ship.SumOf(f)
	if err != nil {
		return fmt.Errorf("ship segment: %w", err)
	}
	ok, err := w.Store.BeginShipping(ctx, name, want.Size, want.SHA256[:])
	if err != nil || !ok {
		return err
	}
	if err := w.copy(ctx, name, f, want); err != nil {
		return err
	}
	ok, err = w.Store.FinishShipping(ctx, name)
	if err != nil {
		return err
	}
	if !ok { // expired meanwhile
		if err := w.Bucket.Delete(ctx, name); err != nil {
			return fmt.Errorf("%w: %w", errStore, err)
		}
		return nil
	}
	now := time.Now()
	w.known[name] = store.Shipment{Segment: name, Size: want.Size, SHA256: want.SHA256[:], Begun: begin, Verified: &now}
	w.metrics.segments.Inc()
	w.metrics.bytes.Add(float64(want.Size))
	w.metrics.seconds.Observe(time.Since(begin).Seconds())
	w.Log.Info("segment shipped", "segment", name, "bytes", want.Size)
	return nil
}

// copy returns when the bucket has a copy that was read back and compared.
func (w *world) copy(ctx context.Context, name string, f *os.File, want ship.Sum) error {
	size, err := w.Bucket.Size(ctx, name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", errStore, err)
	}
	older := err == nil
	there := older && size == want.Size // of a run that was cut off, most likely
	for range tries {
		if !there {
			if older {
				if err := w.mayReplace(name, size); err != nil {
					return err
				}
				older = false
			}
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				return fmt.Errorf("ship segment: %w", err)
			}
			if err := w.Bucket.Put(ctx, name, f, want.Size); err != nil {
				return fmt.Errorf("%w: %w", errStore, err)
			}
		}
		got, err := w.Bucket.Sum(ctx, name, want.Size)
		if err != nil {
			return fmt.Errorf("%w: %w", errStore, err)
		}
		if got == want {
			return nil
		}
		there = false
		w.metrics.errors.WithLabelValues("corrupt").Inc()
		w.Log.Error("the bucket's copy of a segment differs and is sent again", "segment", name, "bytes", want.Size, "copy_bytes", got.Size)
	}
	return errors.Join(fmt.Errorf("%w: segment %s, %d times: %w", errStore, name, tries, ship.ErrCorrupt), w.Bucket.Delete(ctx, name))
}

// free removes a local segment that the bucket and the index have.
func (w *world) free(ctx context.Context, name string) error {
	k, seg, at := w.known[name], w.local[name], w.indexed[name]
	if k.Verified == nil || k.Removed != nil || age(name) < w.KeepLocal {
		return nil
	}
	if !at.Sealed || at.Indexed != seg.Size || k.Size != seg.Size {
		return nil // not in the index as a whole
	}
	size, err := w.Bucket.Size(ctx, name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", errStore, err)
	}
	if err != nil || size != seg.Size {
		w.Log.Error("a shipped segment is no longer in the bucket and is sent again", "segment", name)
		return errors.Join(fmt.Errorf("segment %s: %w", name, ship.ErrCorrupt), w.Store.ForgetShipping(ctx, name))
	}
	if err := archive.RemoveSealed(w.Dir, name); err != nil {
		return err
	}
	delete(w.local, name)
	w.metrics.freed.Inc()
	w.Log.Info("segment removed from the local archive; it is in the bucket", "segment", name, "bytes", seg.Size)
	return nil
}

// sumOf is what was recorded before an upload.
func sumOf(k store.Shipment) ship.Sum {
	s := ship.Sum{Size: k.Size}
	if len(k.SHA256) == sha256.Size {
		copy(s.SHA256[:], k.SHA256)
	}
	return s
}

// kindOf names the cause of an error for metrics.
func kindOf(err error) string {
	switch {
	case errors.Is(err, ship.ErrRefused):
		return "refused"
	case errors.Is(err, ship.ErrCorrupt):
		return "corrupt"
	case errors.Is(err, errStore):
		return "store"
	}
	return "local"
}
