package archive

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// segment is an open segment that this process writes. Its file is locked
// (flock) for as long as the process lives.
type segment struct {
	dir       string // the archive's
	name      string
	nonce     nonce
	file      *os.File
	mark      *os.File
	started   time.Time
	committed int64 // bytes that are durable; what follows was promised to nobody
	records   int
}

// createSegment makes a new segment and its entry in the directory durable.
func createSegment(dir string, now time.Time) (_ *segment, err error) {
	unlock, err := lock(dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	s := &segment{dir: dir, started: now}
	s.name, s.nonce = newName(now)
	defer func() {
		if err != nil {
			s.remove()
			err = fmt.Errorf("create segment %s: %w", s.name, err)
		}
	}()
	if s.file, err = create(openPath(dir, s.name)); err != nil {
		return nil, err
	}
	if err = syscall.Flock(int(s.file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, err
	}
	if s.mark, err = create(markPath(dir, s.name)); err != nil {
		return nil, err
	}
	if err = s.publish(); err != nil {
		return nil, err
	}
	return s, syncDir(filepath.Join(dir, openDir))
}

func create(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, fileMode)
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(fileMode); err != nil { // whatever the umask: the worker reads by group
		f.Close()
		return nil, err
	}
	if err := adopt(path); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// publish tells readers how much is committed. The mark need not be durable:
// after a crash of the machine the segment is recovered from its records.
func (s *segment) publish() error {
	_, err := s.mark.WriteAt(marshalMark(s.committed), 0)
	return err
}

// write puts records behind the committed ones and sets their Refs. Nothing
// is durable yet.
func (s *segment) write(batch []*pending) error {
	offset := s.committed
	out := newGather(s.file, offset)
	heads := make([]byte, 0, len(batch)*(headerSize+wrapSize)) // never grows: parts point into it
	for _, p := range batch {
		p.header.nonce = s.nonce
		p.ref = Ref{Segment: s.name, Offset: offset, Length: headerSize + p.header.payload}
		offset += p.ref.Length
		at := len(heads)
		heads = p.header.append(heads)
		if err := p.payload.writeTo(out, heads[at:]); err != nil {
			return err
		}
	}
	return out.flush()
}

// rollback takes away what was written behind the committed records.
func (s *segment) rollback() error {
	if err := s.file.Truncate(s.committed); err != nil {
		return fmt.Errorf("truncate segment %s to %d bytes: %w", s.name, s.committed, err)
	}
	return nil
}

// seal ends the segment: cut at what is committed, moved out of the open
// directory, or removed when it is empty. Whatever happens, the segment is
// closed and no longer to be written; after an error it is left as if this
// process had died, for recover.
func (s *segment) seal() error {
	defer s.close()
	if s.committed == 0 {
		return s.remove()
	}
	unlock, err := lock(s.dir)
	if err != nil {
		return err
	}
	defer unlock()
	info, err := s.file.Stat()
	if err == nil && info.Size() != s.committed {
		err = errors.Join(s.rollback(), fdatasync(s.file))
	}
	if err != nil {
		return fmt.Errorf("seal segment %s: %w", s.name, err)
	}
	return moveSealed(s.dir, s.name)
}

// moveSealed moves a complete segment out of the open directory, durably.
func moveSealed(dir, name string) error {
	to := sealedPath(dir, name)
	if err := makeDir(filepath.Dir(to), dayMode); err != nil {
		return fmt.Errorf("seal segment %s: %w", name, err)
	}
	if err := os.Rename(openPath(dir, name), to); err != nil {
		return fmt.Errorf("seal segment %s: %w", name, err)
	}
	// In this order: no directory may durably lack it before the other has it.
	if err := syncDir(filepath.Dir(to)); err != nil {
		// The kernel may take what it could not write for written, and a second
		// sync would say nothing. Back, then, so that the next seal writes it anew.
		return fmt.Errorf("seal segment %s: %w", name, errors.Join(err, os.Rename(to, openPath(dir, name))))
	}
	err := syncDir(filepath.Join(dir, openDir))
	if e := os.Remove(markPath(dir, name)); !errors.Is(e, fs.ErrNotExist) {
		err = errors.Join(err, e)
	}
	if err != nil {
		return fmt.Errorf("seal segment %s: %w", name, err)
	}
	return nil
}

// remove unlinks an empty segment.
func (s *segment) remove() error {
	defer s.close()
	return removeOpen(s.dir, s.name)
}

func removeOpen(dir, name string) error {
	var all error
	for _, path := range []string{openPath(dir, name), markPath(dir, name)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			all = errors.Join(all, err)
		}
	}
	return all
}

func (s *segment) close() {
	if s.file != nil {
		s.file.Close()
	}
	if s.mark != nil {
		s.mark.Close()
	}
}
