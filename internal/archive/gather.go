package archive

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// gatherParts is what one system call takes (IOV_MAX of limits.h).
const gatherParts = 1024

// gather writes parts to a file one behind the other, without putting them
// together first.
type gather struct {
	file   *os.File
	offset int64
	parts  [][]byte
}

// flush writes the parts.
func (v *gather) flush() error {
	parts := v.parts
	for len(parts) > 0 {
		var n int
		err := retryEINTR(func() (err error) {
			n, err = unix.Pwritev(int(v.file.Fd()), parts[:min(len(parts), gatherParts)], v.offset)
			return err
		})
		if err != nil {
			return &os.PathError{Op: "pwritev", Path: v.file.Name(), Err: err}
		}
		if n == 0 {
			return io.ErrShortWrite
		}
		v.offset += int64(n)
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
