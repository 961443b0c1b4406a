package archive

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// spoolMemory is what a Spool keeps in memory, in bytes; the rest goes to a
// file.
const spoolMemory = 64 << 10

// spoolPrefix begins the names of spool files while they have one.
const spoolPrefix = ".spool-"

// Spool holds one message while it comes in: up to 64 KiB in memory, then in
// a temporary file that has no name and so vanishes with the process. It is
// not safe for use by several goroutines at once.
type Spool struct {
	dir  string
	max  int64
	size int64
	buf  []byte   // everything, or what is not yet in file
	file *os.File // nil while all is in memory
	err  error    // of the first write that did not succeed; sticky
}

// NewSpool returns an empty spool whose file, if it needs one, lies in dir. A
// message of more than max bytes is refused with ErrTooLarge.
func NewSpool(dir string, max int64) *Spool { return &Spool{dir: dir, max: max} }

// Size is the number of bytes written.
func (s *Spool) Size() int64 { return s.size }

// Write appends p. After an error nothing more is taken, and every later
// Write returns the same error.
func (s *Spool) Write(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	if s.size+int64(len(p)) > s.max {
		s.err = fmt.Errorf("message of more than %d bytes: %w", s.max, ErrTooLarge)
		return 0, s.err
	}
	if len(s.buf)+len(p) > spoolMemory {
		if s.err = s.spill(); s.err != nil {
			return 0, s.err
		}
		if len(p) >= spoolMemory {
			n, err := s.file.Write(p)
			s.size, s.err = s.size+int64(n), err
			return n, err
		}
	}
	s.buf = append(s.buf, p...)
	s.size += int64(len(p))
	return len(p), nil
}

// spill moves the buffer to the file.
func (s *Spool) spill() error {
	if s.file == nil {
		f, err := unnamed(s.dir)
		if err != nil {
			return fmt.Errorf("create spool file: %w", err)
		}
		s.file = f
	}
	if _, err := s.file.Write(s.buf); err != nil {
		return fmt.Errorf("write spool file: %w", err)
	}
	s.buf = s.buf[:0]
	return nil
}

// unnamed makes a temporary file without a name (open(2), O_TMPFILE), or, on
// file systems that cannot, one whose name is removed at once.
func unnamed(dir string) (*os.File, error) {
	if fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600); err == nil {
		return os.NewFile(uintptr(fd), filepath.Join(dir, spoolPrefix)), nil
	}
	f, err := os.CreateTemp(dir, spoolPrefix+"*")
	if err != nil {
		return nil, err
	}
	// Somebody else's removeSpools may have been quicker.
	if err := os.Remove(f.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// removeSpools removes files that a process left which died between making
// and unlinking them.
func removeSpools(dir string) {
	left, _ := filepath.Glob(filepath.Join(dir, spoolPrefix+"*"))
	for _, path := range left {
		os.Remove(path) //nolint:errcheck // tried again at the next start
	}
}

// WriteTo writes everything from the start to w. It may be called again.
func (s *Spool) WriteTo(w io.Writer) (int64, error) {
	if s.err != nil {
		return 0, s.err
	}
	var n int64
	if s.file != nil {
		var err error
		// The reader is hidden so that io.Copy uses this buffer, not a new one
		// of w's choice.
		in := struct{ io.Reader }{io.NewSectionReader(s.file, 0, s.size-int64(len(s.buf)))}
		if n, err = io.CopyBuffer(w, in, make([]byte, 32<<10)); err != nil {
			return n, err
		}
		if n != s.size-int64(len(s.buf)) {
			return n, fmt.Errorf("read spool file: %w", io.ErrUnexpectedEOF)
		}
	}
	m, err := w.Write(s.buf)
	return n + int64(m), err
}

// reader reads everything from the start.
func (s *Spool) reader() io.Reader {
	if s.file == nil {
		return bytes.NewReader(s.buf)
	}
	return io.MultiReader(io.NewSectionReader(s.file, 0, s.size-int64(len(s.buf))), bytes.NewReader(s.buf))
}

// Close frees what the spool holds. It may be called more than once.
func (s *Spool) Close() error {
	s.buf = nil
	s.err = errors.Join(s.err, os.ErrClosed)
	if s.file == nil {
		return nil
	}
	f := s.file
	s.file = nil
	return f.Close()
}
