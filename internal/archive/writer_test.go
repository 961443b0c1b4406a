package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"understudy/internal/wait"
)

func crcOf(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

func TestConcurrentAppends(t *testing.T) {
	t.Parallel()
	dir, spools := t.TempDir(), t.TempDir()
	reg := prometheus.NewRegistry()
	w := openTest(t, dir, Options{SpoolDir: spools, Metrics: reg, MaxBytes: 1 << 20})
	want := sync.Map{}
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			for j := range 5 {
				e := testEnvelope(i)
				body := strings.Repeat(fmt.Sprintf("%d %d\r\n", i, j), 1+i*40)
				s := NewSpool(spools, 1<<30)
				defer s.Close()
				if _, err := s.Write([]byte(body)); err != nil {
					t.Error(err)
				}
				if _, err := w.Append(t.Context(), e, s); err != nil {
					t.Error(err)
				}
				want.Store(e.ID, body)
			}
		})
	}
	wg.Wait()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got, damaged := readAll(t, dir)
	if len(got) != 1000 || damaged != 0 {
		t.Fatalf("%d records, %d damaged bytes", len(got), damaged)
	}
	for _, g := range got {
		if body, ok := want.Load(g.Envelope.ID); !ok || body != g.Body {
			t.Fatalf("record %s is another", g.Envelope.ID)
		}
	}
	if n := testutil.ToFloat64(w.metrics.records); n != 1000 {
		t.Errorf("records metric is %v", n)
	}
	if left, _ := os.ReadDir(spools); len(left) != 0 {
		t.Errorf("spool files left: %v", left)
	}
}

// TestGroupCommit holds the disk with one message while 199 others come: they
// must share one sync.
func TestGroupCommit(t *testing.T) {
	t.Parallel()
	var syncs atomic.Int64
	hold := make(chan struct{})
	release := sync.OnceFunc(func() { close(hold) })
	w := openTest(t, t.TempDir(), Options{sync: func(f *os.File) error {
		syncs.Add(1)
		<-hold
		return fdatasync(f)
	}})
	t.Cleanup(release) // before w is closed, which waits for it
	var wg sync.WaitGroup
	wg.Go(func() { appendTest(t, w, testEnvelope(0), []byte("x")) })
	wait.True(t, "the first message is being synced", func() bool { return syncs.Load() == 1 })
	for i := range 199 {
		wg.Go(func() { appendTest(t, w, testEnvelope(1+i), []byte("x")) })
	}
	wait.True(t, "the others wait", func() bool { return w.line.waiting() == 199 })
	release()
	wg.Wait()
	if n := syncs.Load(); n != 2 {
		t.Errorf("%d syncs for 200 appends", n)
	}
}

func TestStockTools(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := openTest(t, dir, Options{})
	var want []string
	bodies := map[string]string{}
	for i, body := range []string{"a\r\n", "", strings.Repeat("x", 5000), "8 bit \xe9, no end"} {
		e := testEnvelope(i)
		e.Sender = "\xe9@example.org"
		appendTest(t, w, e, []byte(body))
		want = append(want, e.ID.String()+".eml")
		bodies[e.ID.String()+".eml"] = body
	}
	for _, state := range []string{"open", "sealed"} {
		segments, err := Segments(dir)
		if err != nil || len(segments) != 1 || segments[0].Open != (state == "open") {
			t.Fatalf("%s: %+v, %v", state, segments, err)
		}
		path := segments[0].Path
		if out := shell(t, `zstd -dc "$0" | tar -t 2>/dev/null`, path); out != strings.Join(want, "\n")+"\n" {
			t.Errorf("%s: tar -t lists %q, want %q", state, out, want)
		}
		if out := shell(t, `zstd -dc "$0" | tar -tv --warning=no-unknown-keyword`, path); strings.Count(out, "-rw-r-----") != len(want) {
			t.Errorf("%s: tar -tv says %q", state, out)
		}
		shell(t, `zstd -t -q "$0"`, path)
		unpacked := t.TempDir()
		shell(t, `zstd -dc "$0" | tar -x --warning=no-unknown-keyword -C "$1"`, path, unpacked)
		for name, body := range bodies {
			if got, err := os.ReadFile(filepath.Join(unpacked, name)); err != nil || string(got) != body {
				t.Errorf("%s: %s unpacks as %q, %v", state, name, got, err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func shell(t *testing.T, script string, args ...string) string {
	t.Helper()
	cmd := exec.Command("bash", append([]string{"-o", "pipefail", "-c", script}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Errorf("%s: %v\n%s", script, err, errs.String())
	}
	if errs.Len() > 0 {
		t.Errorf("%s complains: %s", script, errs.String())
	}
	return out.String()
}

func TestRotation(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	now := time.Date(2026, 3, 1, 23, 59, 58, 0, time.UTC)
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	pass := func(d time.Duration) { mu.Lock(); defer mu.Unlock(); now = now.Add(d) }
	dir := t.TempDir()
	w := openTest(t, dir, Options{MaxBytes: 4000, MaxAge: time.Hour, now: clock})
	segmentOf := func() string { return appendTest(t, w, testEnvelope(1), []byte("x")).Segment }
	first := segmentOf()
	if segmentOf() != first {
		t.Error("a new segment without need")
	}
	pass(3 * time.Second)
	second := segmentOf()
	if second == first || !strings.HasPrefix(first, "20260301T235958.") || !strings.HasPrefix(second, "20260302T000001.") {
		t.Errorf("around midnight: %s, %s", first, second)
	}
	pass(61 * time.Minute)
	third := segmentOf()
	if third == second {
		t.Error("an old segment was not sealed")
	}
	for segmentOf() == third {
		pass(time.Millisecond)
	}
	info, err := os.Stat(filepath.Join(dir, "2026-03-02", third))
	if err != nil || info.Size() < 4000 || info.Size() > 6000 || info.Mode() != 0o640 {
		t.Errorf("sealed for its size: %v, %v", info, err)
	}
	if info, err := os.Stat(filepath.Join(dir, "2026-03-01")); err != nil || info.Mode().Perm() != dayMode {
		t.Errorf("directory of the day: %v, %v", info, err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(filepath.Join(dir, openDir))
	if err != nil || len(left) != 1 || left[0].Name() != lockFile {
		t.Errorf("left in the open directory: %v, %v", left, err)
	}
	if _, err := w.Append(t.Context(), testEnvelope(1), spoolOf(t, nil)); !errors.Is(err, ErrClosed) {
		t.Errorf("append after Close: %v", err)
	}
}

// TestSealsByAgeAlone seals without a further message.
func TestSealsByAgeAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := openTest(t, dir, Options{MaxAge: time.Millisecond})
	ref := appendTest(t, w, testEnvelope(1), []byte("x"))
	wait.Until(t, "sealed", func() error { _, err := os.Stat(sealedPath(dir, ref.Segment)); return err })
}

// TestFullDisk fills a real file system of 1 MiB.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatalf("mount a small file system (the tests want root): %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) }) //nolint:errcheck // best effort
	w := openTest(t, dir, Options{})
	noise := func(n int) []byte {
		f, err := os.Open("/dev/urandom")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		b := make([]byte, n)
		if _, err := io.ReadFull(f, b); err != nil {
			t.Fatal(err)
		}
		return b
	}
	accepted := map[string]bool{}
	try := func(n int) error {
		e := testEnvelope(1)
		_, err := w.Append(t.Context(), e, spoolOf(t, noise(n)))
		if err == nil {
			accepted[e.ID.String()] = true
		}
		return err
	}
	var err error
	for err == nil {
		err = try(150 << 10)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("full disk says %v", err)
	}
	if err := try(1 << 20); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("full disk says %v", err)
	}
	if err := try(100); err != nil { // there is room for a small one
		t.Fatal(err)
	}
	ballast := filepath.Join(dir, "ballast")
	os.WriteFile(ballast, noise(1<<20), 0o600) //nolint:errcheck // must fail: it takes what is left
	for range 5 {
		if err := try(8 << 10); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("full disk says %v", err)
		}
	}
	if got, damaged := readAll(t, dir); len(got) != len(accepted) || damaged != 0 {
		t.Fatalf("while full: %d records, %d accepted, %d damaged bytes", len(got), len(accepted), damaged)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := try(8 << 10); err != nil {
		t.Fatalf("after room was made: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got, damaged := readAll(t, dir)
	if len(got) != len(accepted) || damaged != 0 {
		t.Fatalf("%d records, %d accepted, %d damaged bytes", len(got), len(accepted), damaged)
	}
	for _, g := range got {
		if !accepted[g.Envelope.ID.String()] {
			t.Errorf("record %s was refused", g.Envelope.ID)
		}
	}
}

// TestFailedSync gives the segment up, keeps what was durable, and goes on.
func TestFailedSync(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	dir := t.TempDir()
	w := openTest(t, dir, Options{sync: func(f *os.File) error {
		if broken.Load() {
			return syscall.EIO
		}
		return fdatasync(f)
	}})
	first := appendTest(t, w, testEnvelope(1), []byte("durable"))
	broken.Store(true)
	for range 3 {
		if _, err := w.Append(t.Context(), testEnvelope(2), spoolOf(t, []byte("in doubt"))); !errors.Is(err, syscall.EIO) {
			t.Fatalf("failed sync says %v", err)
		}
	}
	broken.Store(false)
	last := appendTest(t, w, testEnvelope(3), []byte("after"))
	if last.Segment == first.Segment {
		t.Error("the segment was written after a failed sync")
	}
	got, damaged := readAll(t, dir)
	if len(got) != 2 || damaged != 0 || got[0].Body != "durable" || got[1].Body != "after" {
		t.Errorf("%d damaged bytes, records %+v", damaged, got)
	}
}

// TestSeveralWriters share a directory, each with a segment of its own, and
// none takes the other's for abandoned.
func TestSeveralWriters(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := openTest(t, dir, Options{})
	first := appendTest(t, a, testEnvelope(1), []byte("a"))
	b := openTest(t, dir, Options{})
	if _, err := os.Stat(openPath(dir, first.Segment)); err != nil {
		t.Errorf("the first writer's segment was recovered under its hands: %v", err)
	}
	second := appendTest(t, b, testEnvelope(2), []byte("b"))
	third := appendTest(t, a, testEnvelope(3), []byte("a again"))
	if first.Segment != third.Segment || first.Segment == second.Segment {
		t.Errorf("segments %s, %s, %s", first.Segment, second.Segment, third.Segment)
	}
	if got, damaged := readAll(t, dir); len(got) != 3 || damaged != 0 {
		t.Errorf("%d records, %d damaged bytes", len(got), damaged)
	}
}

// TestFollow reads an open segment while it grows, never past what is
// committed, and through its sealing.
func TestFollow(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	held, hold, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	w := openTest(t, dir, Options{sync: func(f *os.File) error {
		select {
		case held <- struct{}{}:
			select {
			case <-hold:
			case <-ended:
			}
		case <-ended:
		}
		return fdatasync(f)
	}})
	t.Cleanup(func() { close(ended) }) // before w is closed, which waits for its sync
	put := func(body string) chan Ref {
		done := make(chan Ref, 1)
		s := spoolOf(t, []byte(body))
		go func() {
			ref, err := w.Append(context.Background(), testEnvelope(1), s)
			if err != nil {
				t.Error(err)
			}
			done <- ref
		}()
		select {
		case <-held:
		case <-done:
			t.Fatal("appended without a sync")
		}
		return done
	}
	done := put("one")
	hold <- struct{}{}
	ref := <-done
	r, err := OpenSegment(dir, ref.Segment)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	expect := func(want string) {
		t.Helper()
		rec, err := r.Next()
		if err != nil {
			t.Fatalf("want %q: %v", want, err)
		}
		if body, err := io.ReadAll(rec.Body); err != nil || string(body) != want {
			t.Fatalf("got %q, %v, want %q", body, err, want)
		}
	}
	expect("one")
	done = put("two") // written, not synced
	if info, err := os.Stat(openPath(dir, ref.Segment)); err != nil || info.Size() <= r.Offset() {
		t.Fatalf("the second record is not written yet: %v, %v", info, err)
	}
	if _, err := r.Next(); err != io.EOF || !r.Open() {
		t.Fatalf("a record that is not committed: %v", err)
	}
	hold <- struct{}{}
	<-done
	expect("two")
	offset := r.Offset()
	done = put("three")
	hold <- struct{}{}
	<-done
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	expect("three")
	if _, err := r.Next(); err != io.EOF || r.Open() || r.Damaged() != 0 {
		t.Fatalf("at the end: %v, open %v, damaged %d", err, r.Open(), r.Damaged())
	}
	if err := r.SeekTo(offset); err != nil {
		t.Fatal(err)
	}
	expect("three")
}

func TestSegmentsOfNothing(t *testing.T) {
	t.Parallel()
	got, err := Segments(filepath.Join(t.TempDir(), "missing"))
	if err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
	dir := filepath.Join(t.TempDir(), "archive")
	openTest(t, dir, Options{})
	for _, d := range []string{dir, filepath.Join(dir, openDir)} {
		if info, err := os.Stat(d); err != nil || info.Mode().Perm() != fs.FileMode(dirMode) {
			t.Errorf("%s: %v, %v", d, info, err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	body := bytes.Repeat([]byte("The quick brown fox jumps over the lazy dog.\r\n"), 220) // 10 kB
	for _, writers := range []int{1, 20, 200} {
		b.Run(fmt.Sprint(writers), func(b *testing.B) {
			w := openTest(b, b.TempDir(), Options{})
			b.SetBytes(int64(len(body)))
			var left atomic.Int64
			left.Store(int64(b.N))
			var wg sync.WaitGroup
			for range writers {
				wg.Go(func() {
					s := NewSpool(b.TempDir(), 1<<20)
					defer s.Close()
					s.Write(body) //nolint:errcheck // in memory
					for left.Add(-1) >= 0 {
						if _, err := w.Append(b.Context(), testEnvelope(1), s); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
		})
	}
}
