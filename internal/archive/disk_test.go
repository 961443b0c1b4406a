package archive

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"understudy/internal/wait"
)

const errEIO = syscall.EIO

// badDisk is a segment on a disk with sectors that cannot be read.
type badDisk struct {
	*bytes.Reader
	from, to int64
}

func (b badDisk) ReadAt(p []byte, at int64) (int, error) {
	if at < b.to && at+int64(len(p)) > b.from {
		return 0, &os.PathError{Op: "read", Path: "segment", Err: errEIO}
	}
	return b.Reader.ReadAt(p, at)
}

func (badDisk) Close() error { return nil }

// TestUnreadableSectors: they cost the records that touch them.
func TestUnreadableSectors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := openTest(t, dir, Options{})
	var want []readBack
	for i := range 200 {
		e, body := testEnvelope(i), randomBytes(uint64(i), i*37%3000)
		want = append(want, readBack{*e, appendTest(t, w, e, body), string(body)})
	}
	w.Close()
	name := want[0].Ref.Segment
	content, err := os.ReadFile(sealedPath(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	for from := int64(0); from < int64(len(content)); from += 3 * sector {
		for _, length := range []int64{1, sector, 10 * sector} {
			bad := badDisk{bytes.NewReader(content), from, from + length}
			r, err := NewSegmentReader(name, bad, int64(len(content)))
			if err != nil {
				t.Fatal(err)
			}
			// The scanner steps over whole sectors.
			end := (from + length + sector - 1) / sector * sector
			checkSurvivors(t, r, want, func(ref Ref) bool { return ref.Offset < end && ref.Offset+ref.Length > from })
			if last, n, err := lastRecord(bad, int64(len(content)), name); err != nil || n == 0 || end < want[199].Ref.Offset && last != int64(len(content)) {
				t.Fatalf("recovery would end at %d after %d records, %v", last, n, err)
			}
		}
	}
}

// checkSurvivors reads to the end and expects every record but those that may
// be lost.
func checkSurvivors(t *testing.T, r *SegmentReader, want []readBack, mayBeLost func(Ref) bool) {
	t.Helper()
	defer r.Close()
	found := map[string]string{}
	for {
		rec, err := r.Next()
		if err != nil {
			break
		}
		var b bytes.Buffer
		if _, err := b.ReadFrom(rec.Body); err != nil {
			t.Fatal(err)
		}
		found[rec.ID.String()] = b.String()
	}
	for i, s := range want {
		body, ok := found[s.Envelope.ID.String()]
		if !ok && !mayBeLost(s.Ref) {
			t.Fatalf("record %d at %d was lost, which was not touched", i, s.Ref.Offset)
		}
		if ok && body != s.Body {
			t.Fatalf("record %d is another", i)
		}
	}
}

// TestReadOnlyDisk makes a real file system read-only under the writer, and
// writable again.
func TestReadOnlyDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatalf("mount a small file system (the tests want root): %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) }) //nolint:errcheck // best effort
	w := openTest(t, dir, Options{MaxAge: time.Millisecond})       // sealed soon: a file open for writing keeps the kernel from it
	first := appendTest(t, w, testEnvelope(1), []byte("before"))
	wait.Until(t, "sealed", func() error { _, err := os.Stat(sealedPath(dir, first.Segment)); return err })
	wait.Until(t, "read-only", func() error { return syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, "") })
	for range 3 {
		if _, err := w.Append(t.Context(), testEnvelope(2), spoolOf(t, []byte("refused"))); !errors.Is(err, syscall.EROFS) {
			t.Fatalf("read-only disk says %v", err)
		}
	}
	if n := testutil.ToFloat64(w.metrics.errors.WithLabelValues("read_only")); n != 3 {
		t.Errorf("%v errors counted as read_only, want 3", n)
	}
	if got, damaged := readAll(t, dir); len(got) != 1 || damaged != 0 {
		t.Errorf("while read-only: %d records, %d damaged bytes", len(got), damaged)
	}
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	appendTest(t, w, testEnvelope(3), []byte("after"))
	if got, damaged := readAll(t, dir); len(got) != 2 || damaged != 0 || got[1].Body != "after" {
		t.Errorf("afterwards: %d records, %d damaged bytes", len(got), damaged)
	}
}

// TestNoInodes: where there is room for bytes but not for a segment, for its
// mark, or for the day's directory, mail is refused or the segment waits.
func TestNoInodes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	room := func(inodes int) {
		t.Helper()
		if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, fmt.Sprintf("nr_inodes=%d", inodes)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "nr_inodes=20"); err != nil {
		t.Fatalf("mount a small file system (the tests want root): %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) }) //nolint:errcheck // best effort
	w := openTest(t, dir, Options{})
	for inodes := 3; inodes < 5; inodes++ { // there are the root, open and .lock
		room(inodes)
		if _, err := w.Append(t.Context(), testEnvelope(1), spoolOf(t, nil)); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("with %d inodes: %v", inodes, err)
		}
		if left, err := os.ReadDir(filepath.Join(dir, openDir)); err != nil || len(left) != 1 {
			t.Errorf("with %d inodes: left %v, %v", inodes, left, err)
		}
	}
	room(5)
	appendTest(t, w, testEnvelope(1), []byte("one"))
	if err := w.Close(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("sealed without a day's directory: %v", err)
	}
	if got, damaged := readAll(t, dir); len(got) != 1 || damaged != 0 {
		t.Errorf("while it waits: %d records, %d bytes damaged", len(got), damaged)
	}
	room(20)
	openTest(t, dir, Options{})
	segments, err := Segments(dir)
	if err != nil || len(segments) != 1 || segments[0].Open {
		t.Errorf("recovered: %+v, %v", segments, err)
	}
	if got, damaged := readAll(t, dir); len(got) != 1 || damaged != 0 {
		t.Errorf("recovered %d records, %d bytes damaged", len(got), damaged)
	}
}

// TestLostMark: without its mark an open segment is unreadable until the next
// start, and then whole.
func TestLostMark(t *testing.T) {
	t.Parallel()
	name, content, want := smallSegment(t, 3)
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, openDir), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(openPath(dir, name), content, 0o640); err != nil {
		t.Fatal(err)
	}
	if segments, err := Segments(dir); err != nil || len(segments) != 1 || segments[0].Size != 0 {
		t.Errorf("%+v, %v: nothing of it is readable", segments, err)
	}
	if _, err := OpenSegment(dir, name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("opened without its mark: %v", err)
	}
	openTest(t, dir, Options{})
	if got, damaged := readSegment(t, dir, name); len(got) != len(want) || damaged != 0 {
		t.Errorf("recovered %d records, %d damaged bytes", len(got), damaged)
	}
}

// TestLeftoverSpools: files of a process that died are removed at start, and
// spools have no names where the file system can do that.
func TestLeftoverSpools(t *testing.T) {
	t.Parallel()
	spools := t.TempDir()
	for _, name := range []string{spoolPrefix + "123", spoolPrefix + "x", "other"} {
		if err := os.WriteFile(filepath.Join(spools, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	openTest(t, t.TempDir(), Options{SpoolDir: spools})
	s := NewSpool(spools, 1<<30)
	defer s.Close()
	if _, err := s.Write(make([]byte, 3*spoolShare)); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(spools)
	if err != nil || len(left) != 1 || left[0].Name() != "other" {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestOwnership: what root makes belongs to the archive's owner.
func TestOwnership(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "archive")
	if err := errors.Join(os.Mkdir(dir, 0o750), os.Chown(dir, 12345, 23456)); err != nil {
		t.Fatalf("%v (the tests want root)", err)
	}
	w := openTest(t, dir, Options{})
	ref := appendTest(t, w, testEnvelope(1), []byte("x"))
	check := func(path string) {
		t.Helper()
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if s := info.Sys().(*syscall.Stat_t); s.Uid != 12345 || s.Gid != 23456 {
			t.Errorf("%s belongs to %d:%d", path, s.Uid, s.Gid)
		}
	}
	for _, path := range []string{filepath.Join(dir, openDir), filepath.Join(dir, openDir, lockFile), openPath(dir, ref.Segment), markPath(dir, ref.Segment)} {
		check(path)
	}
	w.Close()
	check(sealedPath(dir, ref.Segment))
	check(filepath.Dir(sealedPath(dir, ref.Segment)))
}
