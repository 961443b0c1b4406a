package ship

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"understudy/internal/archive"
	"understudy/internal/archive/ship"
)

// mayReplace says whether the local segment may take the place of another copy
// that the bucket has had for longer, of size bytes. After a database was lost
// nothing tells which of the two is as it was written, and this disk may have
// damaged its own since: then the bucket's may be the only whole one.
func (w *world) mayReplace(name string, size int64) error {
	r, err := archive.OpenSegment(w.Dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return err // expired meanwhile
	}
	if err != nil {
		return fmt.Errorf("ship segment: %w", err)
	}
	defer r.Close()
	for !errors.Is(err, io.EOF) {
		if _, err = r.Next(); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, archive.ErrEncrypted) {
			return fmt.Errorf("ship segment: %w", err)
		}
	}
	if r.Damaged() == 0 && r.Offset() >= size {
		return nil
	}
	return fmt.Errorf("segment %s is damaged here, and the bucket has another copy of it, which stays: archive verify --shipped tells which is whole; put that in the place of the other: %w", name, ship.ErrCorrupt)
}
