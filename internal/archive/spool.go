package archive

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"
)

const (
	spoolFree   = chunkSize // bytes that each Spool may keep in memory
	spoolShare  = 8 << 20   // and, while there is room in spoolMemory,
	spoolBudget = 32 << 20  // of all Spools of the process beyond spoolFree
)

// spoolMemory is the room that is left: most mail needs no file.
var spoolMemory = semaphore.NewWeighted(spoolBudget)

// spoolPrefix begins the names of spool files while they have one.
const spoolPrefix = ".spool-"

// Spool holds one message while it comes in: in memory up to 64 KiB, or 8 MiB
// while all Spools together do not need more than 32 MiB, then in a temporary
// file that has no name and so vanishes with the process. It is not safe for
// use by several goroutines at once, but for an Append that reads it still when
// its caller no longer waits: what was written must not change then.
type Spool struct {
	dir    string
	max    int64
	size   int64
	buf    []byte              // the first 64 KiB, or what is not yet in file
	memory *semaphore.Weighted // what more is taken from
	more   []*[chunkSize]byte  // what follows buf; nil when there is a file
	tail   int                 // bytes in the last of more
	file   *os.File            // nil while all is in memory
	err    error               // of the first write that did not succeed; sticky
	closed bool                // by its owner
	holds  atomic.Int32        // how many beside the owner need what is in it; -1 when nobody does
}

// NewSpool returns an empty spool whose file, if it needs one, lies in dir. A
// message of more than max bytes is refused with ErrTooLarge.
func NewSpool(dir string, max int64) *Spool {
	return &Spool{dir: dir, max: max, memory: spoolMemory}
}

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
	n := 0
	for n < len(p) && s.err == nil {
		n += s.fill(p[n:])
	}
	s.size += int64(n)
	return n, s.err
}

// fill takes a piece of p, or makes room for it.
func (s *Spool) fill(p []byte) int {
	switch room := spoolFree - len(s.buf); {
	case len(s.more) > 0 && s.tail < chunkSize:
		n := copy(s.more[len(s.more)-1][s.tail:], p)
		s.tail += n
		return n
	case len(s.more) == 0 && room > 0:
		n := min(len(p), room)
		s.buf = append(s.buf, p[:n]...)
		return n
	case s.file == nil && len(s.more) < (spoolShare-spoolFree)/chunkSize && s.memory.TryAcquire(chunkSize):
		s.more, s.tail = append(s.more, chunks.Get().(*[chunkSize]byte)), 0
	default:
		s.err = s.spill()
	}
	return 0
}

// parts are the pieces in memory, in their order.
func (s *Spool) parts() [][]byte {
	out := [][]byte{s.buf}
	for i, c := range s.more {
		n := chunkSize
		if i == len(s.more)-1 {
			n = s.tail
		}
		out = append(out, c[:n])
	}
	return out
}

// spill moves what is in memory to the file.
func (s *Spool) spill() error {
	if s.file == nil {
		f, err := unnamed(s.dir)
		if err != nil {
			return fmt.Errorf("create spool file: %w", err)
		}
		s.file = f
	}
	for _, part := range s.parts() {
		if _, err := s.file.Write(part); err != nil {
			return fmt.Errorf("write spool file: %w", err)
		}
	}
	s.buf = s.buf[:0]
	s.release()
	return nil
}

// release gives back what was taken of spoolMemory.
func (s *Spool) release() {
	for _, c := range s.more {
		chunks.Put(c)
	}
	s.memory.Release(int64(len(s.more)) * chunkSize)
	s.more, s.tail = nil, 0
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
	// The writer is hidden so that io.Copy uses this buffer, not one of its choice.
	n, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{s.reader()}, make([]byte, 32<<10))
	if err == nil && n != s.size {
		err = fmt.Errorf("read spool file: %w", io.ErrUnexpectedEOF)
	}
	return n, err
}

// reader reads everything from the start.
func (s *Spool) reader() io.Reader { return s.readerWith(nil, nil) }

// readerWith reads head, everything, and tail.
func (s *Spool) readerWith(head, tail []byte) io.Reader {
	if s.file == nil {
		all := append(make(net.Buffers, 0, len(s.more)+3), head)
		all = append(append(all, s.parts()...), tail)
		return &all
	}
	inFile, parts := s.size, net.Buffers(s.parts())
	for _, part := range parts {
		inFile -= int64(len(part))
	}
	parts = append(parts, tail)
	return io.MultiReader(bytes.NewReader(head), io.NewSectionReader(s.file, 0, inFile), &parts)
}

// Close frees what the spool holds, or has who still reads it do so. It may be
// called more than once.
func (s *Spool) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	s.err = errors.Join(s.err, os.ErrClosed)
	return s.drop()
}

// hold keeps what is in the spool until drop.
func (s *Spool) hold() { s.holds.Add(1) }

// drop ends a hold, the owner's or another's; the last one frees the spool.
func (s *Spool) drop() error {
	if s.holds.Add(-1) >= 0 {
		return nil
	}
	s.buf = nil
	s.release()
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// piece is a part of what is in a Spool.
type piece struct {
	memory []byte // nil when it is in the file
	offset int64  // there
	size   int    // bytes, at most chunkSize
}

// pieces are all that was written, in its order.
func (s *Spool) pieces() []piece {
	var out []piece
	parts := s.parts()
	inFile := s.size
	for _, part := range parts {
		inFile -= int64(len(part))
	}
	for at := int64(0); at < inFile; at += chunkSize {
		out = append(out, piece{offset: at, size: int(min(chunkSize, inFile-at))})
	}
	for _, part := range parts {
		if len(part) > 0 {
			out = append(out, piece{memory: part, size: len(part)})
		}
	}
	return out
}

// read returns a piece, read into buffer if it is in the file.
func (s *Spool) read(p piece, buffer *[chunkSize]byte) ([]byte, error) {
	if p.memory != nil {
		return p.memory, nil
	}
	if n, err := s.file.ReadAt(buffer[:p.size], p.offset); n < p.size {
		return nil, fmt.Errorf("read spool file: %w", err)
	}
	return buffer[:p.size], nil
}
