package archive

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

const (
	// gatherParts is what one system call takes (IOV_MAX of limits.h).
	gatherParts = 1024

	// gatherBytes is after how many bytes the disk is told to begin, so that it
	// works while the rest is being copied and not only when all is there.
	gatherBytes = 1 << 20
)

// gather writes parts to a file one behind the other, without putting them
// together first.
type gather struct {
	file   *os.File
	offset int64
	begun  int64 // up to where the disk was told to begin
	parts  [][]byte
}

func newGather(f *os.File, offset int64) *gather {
	return &gather{file: f, offset: offset, begun: offset}
}

// add takes more parts, and writes all of them when they are many.
func (v *gather) add(parts ...[]byte) error {
	if v.parts = append(v.parts, parts...); len(v.parts) < gatherParts/2 {
		return nil
	}
	return v.flush()
}

// flush writes the parts.
func (v *gather) flush() error {
	for parts := v.parts; len(parts) > 0; {
		now, bytes := 0, 0
		for now < min(len(parts), gatherParts) && bytes < gatherBytes {
			bytes += len(parts[now])
			now++
		}
		var n int
		err := retryEINTR(func() (err error) {
			n, err = unix.Pwritev(int(v.file.Fd()), parts[:now], v.offset)
			return err
		})
		if err != nil {
			return &os.PathError{Op: "pwritev", Path: v.file.Name(), Err: err}
		}
		if n == 0 {
			return io.ErrShortWrite
		}
		if v.offset += int64(n); v.offset-v.begun >= gatherBytes {
			// Whether it was written is what fdatasync tells, but for what fails before
			// it reaches the disk: a file system may drop those pages, and nothing is
			// left for fdatasync to write, or to tell of.
			err := unix.SyncFileRange(int(v.file.Fd()), v.begun, v.offset-v.begun, unix.SYNC_FILE_RANGE_WRITE)
			if errors.Is(err, unix.EIO) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
				return &os.PathError{Op: "sync_file_range", Path: v.file.Name(), Err: err}
			}
			v.begun = v.offset
		}
		for n > 0 && n >= len(parts[0]) {
			n -= len(parts[0])
			parts = parts[1:]
		}
		if n > 0 {
			parts[0] = parts[0][n:]
		}
	}
	v.parts = v.parts[:0]
	return nil
}

// copy writes the parts and then all n bytes of r.
func (v *gather) copy(r io.Reader, n int64) error {
	b := make([]byte, min(n, 256<<10))
	for n > 0 {
		b = b[:min(n, int64(len(b)))]
		if _, err := io.ReadFull(r, b); err != nil {
			return err
		}
		n -= int64(len(b))
		v.parts = append(v.parts, b)
		if err := v.flush(); err != nil {
			return err
		}
	}
	return v.flush()
}
