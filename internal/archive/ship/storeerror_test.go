package ship_test

import (
	"errors"
	"io/fs"
	"os"
	"testing"

	"understudy/internal/archive"
	"understudy/internal/archive/ship"
	"understudy/internal/archive/shiptest"
)

// TestStoreError: it is said of the store, never of a record that is gone or
// damaged.
func TestStoreError(t *testing.T) {
	t.Parallel()
	r := newRig(t, shiptest.Directory(t), 1000)
	r.put(t)
	read := func() (store bool, err error) {
		_, err = r.reader.ReadRecord(t.Context(), r.refs[0])
		var s *ship.StoreError
		return errors.As(err, &s), err
	}
	flip(t, r.segment.Path, r.refs[0].Offset+100)
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	if store, err := read(); !store || errors.Is(err, archive.ErrDamaged) {
		t.Errorf("damaged here, and the store is away: %v", err)
	}
	r.removeLocal(t)
	if store, err := read(); !store || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the store is away: %v", err)
	}
	r.Start(t)
	if err := os.Truncate(r.object(), r.refs[0].Offset+10); err != nil {
		t.Fatal(err)
	}
	if store, err := read(); store || !errors.Is(err, archive.ErrDamaged) {
		t.Errorf("cut off: %v", err)
	}
	if err := os.Remove(r.object()); err != nil {
		t.Fatal(err)
	}
	if store, err := read(); store || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("gone: %v", err)
	}
}
