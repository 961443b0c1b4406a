package directory

import (
	"fmt"
	"time"
)

const (
	saveInterval = 2 * time.Second // at most one write in this time
	smallFile    = 1 << 20         // bytes of changes that never make a file worth writing anew
)

// saver keeps the file of a directory: it writes all of it once, in the
// background, and then adds changes, until these are half as large as the
// rest. It belongs to the follower's goroutine.
type saver struct {
	dir  *Directory
	path string // "" saves nothing

	pending []*Change // not in the file
	whole   bool      // all must be written anew; pending does not matter
	size    int64     // of the file when it was written, in bytes
	grown   int64     // by changes since
	last    time.Time
	writing chan written // nil while nothing is being written
}

// written is how writing the whole file ended.
type written struct {
	size int64
	err  error
}

// add notes a change that is in memory.
func (s *saver) add(c *Change) {
	if s.path == "" {
		return
	}
	s.pending = append(s.pending, c)
	// The first of a process too: what an earlier one left may be torn.
	s.whole = s.whole || c.Full || s.size == 0 && s.writing == nil
}

// unsaved reports whether save is to be called again.
func (s *saver) unsaved() bool { return s.whole || len(s.pending) > 0 || s.writing != nil }

// save writes what is not in the file, if the last write is long enough ago.
func (s *saver) save() error {
	if s.writing != nil {
		select {
		case done := <-s.writing:
			return s.wrote(done)
		default:
			return nil
		}
	}
	if !s.unsaved() || time.Since(s.last) < saveInterval {
		return nil
	}
	return s.write()
}

// finish writes everything that is not in the file, and waits for it.
func (s *saver) finish() error {
	for s.unsaved() {
		var err error
		if s.writing != nil {
			err = s.wrote(<-s.writing)
		} else {
			err = s.write()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *saver) write() error {
	s.last = time.Now()
	if s.whole || s.grown > max(smallFile, s.size/2) {
		all := s.dir.snapshot()
		s.pending, s.whole, s.writing = nil, false, make(chan written, 1)
		go func(done chan<- written) {
			size, err := all.write(s.path)
			done <- written{size, err}
		}(s.writing)
		return nil
	}
	n, err := appendTo(s.path, s.pending)
	if err != nil { // the file may end in half a line
		s.whole = true
		return err
	}
	s.pending, s.grown = nil, s.grown+n
	return nil
}

func (s *saver) wrote(done written) error {
	s.writing = nil
	if done.err != nil {
		s.whole = true
		return fmt.Errorf("write anew: %w", done.err)
	}
	s.size, s.grown = done.size, 0
	return nil
}
