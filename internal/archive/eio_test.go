package archive

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"understudy/internal/wait"
)

// TestFailedSyncOfARealDisk has a real kernel fail fdatasync: a file system
// on a loop device whose backing file, sparse, is on a full tmpfs. Writes go
// well (they reach the page cache), syncs do not.
func TestFailedSyncOfARealDisk(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	backing, dir := filepath.Join(base, "backing"), filepath.Join(base, "disk")
	if err := errors.Join(os.Mkdir(backing, 0o700), os.Mkdir(dir, 0o700), syscall.Mount("tmpfs", backing, "tmpfs", 0, "size=3m")); err != nil {
		t.Fatalf("mount a small file system (the tests want root): %v", err)
	}
	image := filepath.Join(backing, "image")
	t.Cleanup(func() {
		syscall.Unmount(dir, syscall.MNT_DETACH)     //nolint:errcheck // best effort
		syscall.Unmount(backing, syscall.MNT_DETACH) //nolint:errcheck // best effort
	})
	tool := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
	}
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, 16<<20)); err != nil {
		t.Fatal(err)
	}
	tool("mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", "-E", "lazy_itable_init=0,nodiscard", image)
	tool("mount", "-o", "loop", image, dir)
	w := openTest(t, dir, Options{MaxAge: time.Hour})
	accepted := map[string]int{}
	try := func(n int) error {
		e := testEnvelope(n)
		_, err := w.Append(t.Context(), e, spoolOf(t, randomBytes(uint64(n), 100<<10)))
		if err == nil {
			accepted[e.ID.String()] = n
		}
		return err
	}
	var err error
	n := 0
	for ; err == nil && n < 200; n++ {
		err = try(n)
	}
	// EIO or ENOSPC, as the loop driver likes.
	if err == nil || !strings.Contains(err.Error(), "sync segment") {
		t.Fatalf("after %d messages: %v, want a failed sync", n, err)
	}
	for range 3 {
		n++
		if err := try(n); err == nil {
			t.Fatal("accepted on a disk that cannot write")
		}
	}
	if err := syscall.Mount("", backing, "tmpfs", syscall.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
	wait.Until(t, "stored again", func() error { n++; return try(n) }) // the disk is mended: no restart is needed
	if len(accepted) < 10 {
		t.Errorf("%d accepted: too few", len(accepted))
	}
	w.Close()
	got, _ := readAll(t, dir)
	found := map[string]string{}
	for _, g := range got {
		found[g.Envelope.ID.String()] = g.Body
	}
	for id, n := range accepted {
		if found[id] != string(randomBytes(uint64(n), 100<<10)) {
			t.Errorf("message %d was accepted; in the archive: %d bytes of it", n, len(found[id]))
		}
	}
}
