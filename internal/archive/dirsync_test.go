package archive

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"understudy/internal/wait"
)

var (
	syncedAs   sync.Map // by path: names in a directory (map[string]bool), size of a file, at the last sync
	syncFaults sync.Map // by path: what a sync of it says
)

// notingSync is fsync in all tests. What it notes is what survives the power.
func notingSync(f *os.File) error {
	if err, ok := syncFaults.Load(f.Name()); ok {
		return &os.PathError{Op: "fsync", Path: f.Name(), Err: err.(error)}
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.IsDir() {
		syncedAs.Store(f.Name(), info.Size())
		return f.Sync()
	}
	entries, err := os.ReadDir(f.Name())
	if err != nil {
		return err
	}
	names := map[string]bool{}
	for _, e := range entries {
		names[e.Name()] = true
	}
	syncedAs.Store(f.Name(), names)
	return f.Sync()
}

// entrySynced reports whether a path's directory had it when it was synced.
func entrySynced(path string) bool {
	names, _ := syncedAs.Load(filepath.Dir(path))
	in, _ := names.(map[string]bool)
	return in[filepath.Base(path)]
}

// TestDirectorySyncs: whatever was answered has a durable name.
func TestDirectorySyncs(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "archive")
	w := openTest(t, dir, Options{})
	ref := appendTest(t, w, testEnvelope(1), []byte("x"))
	open, sealed := openPath(dir, ref.Segment), sealedPath(dir, ref.Segment)
	for _, path := range []string{dir, filepath.Dir(open), open} {
		if !entrySynced(path) {
			t.Errorf("answered, and %s may vanish", path)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Dir(sealed), sealed} {
		if !entrySynced(path) {
			t.Errorf("sealed, and %s may vanish", path)
		}
	}
	if entrySynced(open) {
		t.Errorf("sealed, and %s may come back", open)
	}
}

// TestDirectoryOfADeadProcess: it was made, and its maker died before its entry
// was durable.
func TestDirectoryOfADeadProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := openTest(t, dir, Options{})
	day := filepath.Dir(sealedPath(dir, appendTest(t, w, testEnvelope(1), nil).Segment))
	if err := os.Mkdir(day, dayMode); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil || !entrySynced(day) {
		t.Errorf("%v; %s may vanish, with all in it: %v", err, day, !entrySynced(day))
	}
}

// TestFailedRename: a segment that cannot be moved can be read where it is.
func TestFailedRename(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := openTest(t, dir, Options{})
	sealed := sealedPath(dir, appendTest(t, w, testEnvelope(1), nil).Segment)
	if err := os.WriteFile(filepath.Dir(sealed), nil, 0o600); err != nil { // in place of the day
		t.Fatal(err)
	}
	if err := w.Close(); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("Close says %v", err)
	}
	if got, damaged := readAll(t, dir); len(got) != 1 || damaged != 0 {
		t.Errorf("%d records, %d bytes damaged", len(got), damaged)
	}
}

// TestFailedDirectorySync: the message is refused, or the segment left for the
// next time; nothing is lost, and nothing that could vanish is relied on.
func TestFailedDirectorySync(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := openTest(t, dir, Options{})
	fail := func(path string) (mend func()) {
		syncFaults.Store(path, errEIO)
		return func() { syncFaults.Delete(path) }
	}
	mend := fail(filepath.Join(dir, openDir))
	for range 3 {
		if _, err := w.Append(t.Context(), testEnvelope(1), spoolOf(t, nil)); !errors.Is(err, errEIO) {
			t.Errorf("a segment that may vanish: %v", err)
		}
	}
	mend()
	if got, _ := readAll(t, dir); len(got) != 0 {
		t.Errorf("%d refused messages are archived", len(got))
	}
	var want []string
	for _, what := range []string{"the archive", "the day"} {
		body := what + " could not be synced"
		ref := appendTest(t, w, testEnvelope(1), []byte(body))
		sealed := sealedPath(dir, ref.Segment)
		want = append(want, body)
		day := filepath.Dir(sealed)
		mend := fail(map[string]string{"the archive": dir, "the day": day}[what])
		if err := w.Close(); !errors.Is(err, errEIO) {
			t.Errorf("%s: Close says %v", what, err)
		}
		if n := testutil.ToFloat64(w.metrics.sealErrors); n != 1 || !w.orphans {
			t.Errorf("%s: %v failures counted, to be tried again: %v", what, n, w.orphans)
		}
		if !entrySynced(sealed) && !entrySynced(openPath(dir, ref.Segment)) {
			t.Errorf("%s: the segment may vanish", what)
		}
		mend()
		w = openTest(t, dir, Options{})
		if !entrySynced(day) {
			t.Errorf("%s: its directory may vanish, with all in it", day)
		}
		if !entrySynced(sealed) || entrySynced(openPath(dir, ref.Segment)) {
			t.Errorf("%s: after recovery the segment's new name is durable: %v, its old one: %v",
				what, entrySynced(sealed), entrySynced(openPath(dir, ref.Segment)))
		}
		got, damaged := readAll(t, dir)
		var bodies []string
		for _, g := range got {
			bodies = append(bodies, g.Body)
		}
		if strings.Join(bodies, ",") != strings.Join(want, ",") || damaged != 0 {
			t.Errorf("%s: archived %q, %d bytes damaged", what, bodies, damaged)
		}
	}
}

// TestLockedOpen: who makes, seals and recovers segments waits for the others.
func TestLockedOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := openTest(t, dir, Options{})
	info, err := os.Stat(filepath.Join(dir, openDir, lockFile))
	if err != nil {
		t.Fatal(err)
	}
	inode := fmt.Sprintf(":%d ", info.Sys().(*syscall.Stat_t).Ino)
	waits := func(what string, do func() error) {
		t.Helper()
		unlock, err := lock(dir)
		if err != nil {
			t.Fatal(err)
		}
		unlock = sync.OnceFunc(unlock)
		defer unlock()
		done := make(chan error, 1)
		go func() { done <- do() }()
		wait.Until(t, what+" waits", func() error {
			select {
			case err := <-done:
				t.Fatalf("%s did not wait for the lock: %v", what, err)
			default:
			}
			locks, err := os.ReadFile("/proc/locks") // proc_locks(5): "->" is who waits
			for line := range strings.Lines(string(locks)) {
				if strings.Contains(line, "-> FLOCK") && strings.Contains(line, inode) {
					return nil
				}
			}
			return fmt.Errorf("nobody waits: %w", err)
		})
		unlock()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	message := spoolOf(t, nil)
	waits("making a segment", func() error { _, err := w.Append(t.Context(), testEnvelope(1), message); return err })
	waits("sealing", w.Close)
	waits("recovery", func() error { _, err := recoverOpen(dir, slog.New(slog.DiscardHandler)); return err })
}
