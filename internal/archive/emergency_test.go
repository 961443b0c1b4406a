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

	"github.com/prometheus/client_golang/prometheus/testutil"

	"understudy/internal/wait"
)

// TestDiskTurnsReadOnly: ext4 makes itself read-only under an open segment
// when it finds an error. Mail is refused, no file keeps the disk from being
// unmounted and checked, and then the same process goes on.
func TestDiskTurnsReadOnly(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	image, dir := filepath.Join(base, "image"), filepath.Join(base, "disk")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(image, nil, 0o600), os.Truncate(image, 16<<20)); err != nil {
		t.Fatal(err)
	}
	tool := func(name string, args ...string) string {
		t.Helper()
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v (the tests want root)\n%s", name, args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	tool("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,nodiscard", image)
	mount := func() { tool("mount", "-o", "loop,errors=remount-ro", image, dir) }
	mount()
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) }) //nolint:errcheck // best effort
	w := openTest(t, dir, Options{MaxAge: time.Hour})
	appendTest(t, w, testEnvelope(1), []byte("before"))
	device := filepath.Base(tool("findmnt", "-no", "SOURCE", dir))
	if err := os.WriteFile("/sys/fs/ext4/"+device+"/trigger_fs_error", []byte("a test\n"), 0o200); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := w.Append(t.Context(), testEnvelope(2), spoolOf(t, []byte("refused"))); err == nil {
			t.Fatal("accepted on a disk that is read-only")
		}
	}
	if n := testutil.ToFloat64(w.metrics.errors.WithLabelValues("read_only")); n == 0 {
		t.Errorf("no error counted as read_only")
	}
	if got, damaged := readAll(t, dir); len(got) != 1 || damaged != 0 {
		t.Errorf("while read-only: %d records, %d damaged bytes", len(got), damaged)
	}
	wait.Until(t, "unmounted", func() error { return syscall.Unmount(dir, 0) })
	exec.Command("e2fsck", "-fy", image).Run() //nolint:errcheck // 1 says that it mended something
	mount()
	appendTest(t, w, testEnvelope(3), []byte("after"))
	w.Close()
	openTest(t, dir, Options{}).Close()
	got, damaged := readAll(t, dir)
	if len(got) != 2 || damaged != 0 || got[0].Body != "before" || got[1].Body != "after" {
		t.Errorf("afterwards: %d records, %d damaged bytes", len(got), damaged)
	}
}
