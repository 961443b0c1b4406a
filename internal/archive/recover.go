package archive

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// recoverOpen seals the segments that no living process writes: those of a
// process that died, or those that could not be sealed for trouble with the
// disk. It returns how many there were; what cannot be recovered now is left
// for the next time.
func recoverOpen(dir string, log *slog.Logger) (int, error) {
	unlock, err := lock(dir)
	if err != nil {
		return 0, err
	}
	defer unlock()
	entries, err := os.ReadDir(filepath.Join(dir, openDir))
	if err != nil {
		return 0, fmt.Errorf("recover open segments: %w", err)
	}
	n := 0
	var all error
	for _, e := range entries {
		if namePattern.MatchString(e.Name()) {
			done, err := recoverSegment(dir, e.Name(), log)
			if all = errors.Join(all, err); done {
				n++
			}
		}
	}
	return n, errors.Join(all, removeStrayMarks(dir))
}

// recoverSegment cuts the torn tail of one segment and seals it, unless
// another process holds it.
func recoverSegment(dir, name string, log *slog.Logger) (bool, error) {
	f, err := os.OpenFile(openPath(dir, name), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) { // its writer removed it, empty, since it was listed
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("recover segment %s: %w", name, err)
	}
	defer f.Close()
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("recover segment %s: lock: %w", name, err)
	}
	info, err := f.Stat()
	if err != nil {
		return false, fmt.Errorf("recover segment %s: %w", name, err)
	}
	size := info.Size()
	end, records, err := lastRecord(f, size, name)
	if err != nil {
		return false, fmt.Errorf("recover segment %s: %w", name, err)
	}
	// The mark never exceeds what was acknowledged. Damage inside of that is
	// kept for repair; only what nobody was promised is cut.
	if c := committedSize(dir, name); c > end && c <= size {
		end = c
	}
	log.Info("recovering a segment that was left open", "segment", name, "records", records, "bytes", end, "cut", size-end)
	if end == 0 {
		return true, removeOpen(dir, name)
	}
	if end < size {
		err = f.Truncate(end)
	}
	if err = errors.Join(err, fsync(f)); err != nil {
		return false, fmt.Errorf("recover segment %s: cut at %d bytes: %w", name, end, err)
	}
	return true, moveSealed(dir, name)
}

// lastRecord scans a segment of size bytes and returns where its last good
// record ends. Nothing is cut of a segment with records of a later format
// version: they are not this program's to judge.
func lastRecord(src io.ReaderAt, size int64, name string) (end int64, records int, err error) {
	n, err := parseName(name)
	if err != nil {
		return 0, 0, err
	}
	s := scanner{src: src, nonce: n}
	for pos := int64(0); ; {
		start, h, err := s.next(pos, size)
		if err == io.EOF {
			if s.newer != 0 {
				end = size
			}
			return end, records, nil
		}
		if err != nil {
			return 0, 0, err
		}
		pos = start + headerSize + h.payload
		end, records = pos, records+1
	}
}

// removeStrayMarks removes marks whose segment is gone: a crash between a
// seal's rename and its end.
func removeStrayMarks(dir string) error {
	marks, err := filepath.Glob(filepath.Join(dir, openDir, ".*.committed"))
	if err != nil {
		return err
	}
	for _, m := range marks {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(m), "."), ".committed")
		if _, err := os.Lstat(openPath(dir, name)); errors.Is(err, fs.ErrNotExist) {
			if err := os.Remove(m); err != nil && !errors.Is(err, fs.ErrNotExist) { // its writer may do so too
				return err
			}
		}
	}
	return nil
}
