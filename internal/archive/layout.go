package archive

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	openDir    = "open"  // below the archive directory: segments being written
	lockFile   = ".lock" // in openDir: held while segments are made, sealed or recovered
	nameLayout = "20060102T150405.000000Z"
	suffix     = ".tar.zst"
	dirMode    = 0o750
	dayMode    = 0o770 // of the days' directories: who ships and expires segments unlinks them, by group
	fileMode   = 0o640
)

var (
	namePattern = regexp.MustCompile(`^\d{8}T\d{6}\.\d{6}Z-[0-9a-f]{16}\.tar\.zst$`)
	dayPattern  = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}$`)
)

// newName makes the name of a segment that starts now: its time, so that names
// sort by time, and its nonce.
func newName(now time.Time) (string, nonce) {
	var n nonce
	rand.Read(n[:]) //nolint:errcheck // never fails, crypto/rand
	return now.UTC().Format(nameLayout) + "-" + hex.EncodeToString(n[:]) + suffix, n
}

// parseName checks a segment's name and returns its nonce.
func parseName(name string) (n nonce, err error) {
	if !namePattern.MatchString(name) {
		return n, fmt.Errorf("%w: %.80q", ErrName, name)
	}
	_, digits, _ := strings.Cut(strings.TrimSuffix(name, suffix), "-")
	_, err = hex.Decode(n[:], []byte(digits))
	return n, err
}

func openPath(dir, name string) string { return filepath.Join(dir, openDir, name) }

// sealedPath is where a segment lies once sealed: in the directory of the UTC
// day on which it was started.
func sealedPath(dir, name string) string {
	return filepath.Join(dir, name[0:4]+"-"+name[4:6]+"-"+name[6:8], name)
}

// markPath is the file beside an open segment that says how much of it is
// committed.
func markPath(dir, name string) string { return filepath.Join(dir, openDir, "."+name+".committed") }

const markSize = 12

// marshalMark makes the content of a mark: an offset and its CRC-32C.
func marshalMark(committed int64) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(committed))
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// readMark reads a mark. It reports false when there is none or it is torn.
func readMark(r io.ReaderAt) (int64, bool) {
	var b [markSize]byte
	if _, err := r.ReadAt(b[:], 0); err != nil || binary.LittleEndian.Uint32(b[8:]) != crc32.Checksum(b[:8], castagnoli) {
		return 0, false
	}
	v := binary.LittleEndian.Uint64(b[:])
	return int64(v), v < 1<<62
}

// Segment is one file of the archive.
type Segment struct {
	Name string
	Path string
	Open bool  // still being written
	Size int64 // readable bytes: of an open segment, those that are committed
}

// Segments lists the archive in dir, sorted by name and so by time. A segment
// that is sealed meanwhile is listed once.
func Segments(dir string) ([]Segment, error) {
	found := map[string]Segment{}
	// Open ones first: a segment moves from open to sealed, never back.
	if err := addSegments(filepath.Join(dir, openDir), found); err != nil {
		return nil, err
	}
	days, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list archive: %w", err)
	}
	for _, d := range days {
		if d.IsDir() && dayPattern.MatchString(d.Name()) {
			if err := addSegments(filepath.Join(dir, d.Name()), found); err != nil {
				return nil, err
			}
		}
	}
	out := make([]Segment, 0, len(found))
	for _, s := range found {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Segment) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// addSegments adds the segments of one directory.
func addSegments(dir string, found map[string]Segment) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list archive: %w", err)
	}
	for _, e := range entries {
		if !namePattern.MatchString(e.Name()) {
			continue
		}
		s := Segment{Name: e.Name(), Path: filepath.Join(dir, e.Name()), Open: filepath.Base(dir) == openDir}
		if info, err := e.Info(); err == nil {
			s.Size = info.Size()
		} else if errors.Is(err, fs.ErrNotExist) {
			continue // sealed or expired since
		} else {
			return fmt.Errorf("list archive: %w", err)
		}
		if s.Open {
			s.Size = min(s.Size, committedSize(filepath.Dir(dir), s.Name))
		}
		found[s.Name] = s
	}
	return nil
}

func committedSize(dir, name string) int64 {
	f, err := os.Open(markPath(dir, name))
	if err != nil {
		return 0
	}
	defer f.Close()
	v, _ := readMark(f)
	return v
}

// lock takes the lock of the open directory, waiting for other processes that
// make, seal or recover segments: they hold it for moments.
func lock(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, openDir, lockFile), os.O_CREATE|os.O_RDWR, fileMode)
	if err != nil {
		return nil, fmt.Errorf("lock archive: %w", err)
	}
	if err := adopt(f.Name()); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock archive: %w", err)
	}
	if err := retryEINTR(func() error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX) }); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock archive: %w", err)
	}
	return func() { f.Close() }, nil
}

func retryEINTR(f func() error) error {
	for {
		if err := f(); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// fdatasync makes a file's bytes, and its size, durable.
func fdatasync(f *os.File) error {
	return retryEINTR(func() error { return syscall.Fdatasync(int(f.Fd())) })
}

// fsync is for directories, and for files that recovery cuts. Tests note what
// was synced, and make it fail.
var fsync = (*os.File).Sync

// syncDir makes the entries of a directory durable.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(fsync(d), d.Close())
}

// makeDir makes a directory and its entry durable.
func makeDir(path string, mode fs.FileMode) error {
	err := os.Mkdir(path, mode)
	if errors.Is(err, fs.ErrExist) {
		// Who made it may have died, or met a failing disk, before its entry was
		// durable. Who may not even look above it did not make it.
		if err = syncDir(filepath.Dir(path)); errors.Is(err, fs.ErrPermission) {
			return nil
		}
		return err
	}
	if err != nil {
		return err
	}
	if err = errors.Join(os.Chmod(path, mode), adopt(path), syncDir(filepath.Dir(path))); err != nil {
		os.Remove(path) //nolint:errcheck // so that the next time it is written anew: a second sync alone would say nothing
	}
	return err
}

// adopt gives what root has made to the owner and group of the directory it
// lies in, so that the other users of the archive can go on with it.
func adopt(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return err
	}
	dir := info.Sys().(*syscall.Stat_t)
	return os.Lchown(path, int(dir.Uid), int(dir.Gid))
}
