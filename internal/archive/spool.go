package archive

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// spoolMemory is what a Spool keeps in memory, in bytes; the rest goes to a
// file.
const spoolMemory = 64 << 10

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
		f, err := os.CreateTemp(s.dir, ".spool-*")
		if err != nil {
			return fmt.Errorf("create spool file: %w", err)
		}
		if err := os.Remove(f.Name()); err != nil {
			return errors.Join(fmt.Errorf("unlink spool file: %w", err), f.Close())
		}
		s.file = f
	}
	if _, err := s.file.Write(s.buf); err != nil {
		return fmt.Errorf("write spool file: %w", err)
	}
	s.buf = s.buf[:0]
	return nil
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
