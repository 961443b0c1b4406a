package archive

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

const killDir = "UNDERSTUDY_ARCHIVE_KILL_DIR"

// TestMain turns the test binary into a process that appends until it is
// killed, when it is asked to.
func TestMain(m *testing.M) {
	if dir := os.Getenv(killDir); dir != "" {
		appendForever(dir)
	}
	fsync = notingSync
	os.Exit(m.Run())
}

// appendForever prints the id of each message once it is acknowledged.
func appendForever(dir string) {
	w, err := OpenWriter(dir, Options{MaxBytes: 64 << 10})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			for j := 0; ; j++ {
				e := testEnvelope(i)
				s := NewSpool(os.TempDir(), 1<<20)
				s.Write([]byte(strings.Repeat(e.ID.String(), j%200))) //nolint:errcheck // tells itself
				if _, err := w.Append(context.Background(), e, s); err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				s.Close()
				mu.Lock()
				fmt.Println(e.ID, j%200)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// TestKill kills the writer under load, again and again: whatever was
// acknowledged is there, whole.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	acknowledged := map[string]int{}
	for round := range 6 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), killDir+"="+dir)
		cmd.Stderr = t.Output()
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			var id string
			var size int
			if k, _ := fmt.Sscan(lines.Text(), &id, &size); k == 2 && len(id) == 36 {
				acknowledged[id] = size
			}
			if n == 100+round*150 {
				cmd.Process.Kill() //nolint:errcheck // it lives
			}
		}
		cmd.Wait() //nolint:errcheck // killed
	}
	w := openTest(t, dir, Options{})
	got, damaged := readAll(t, dir)
	found := map[string]string{}
	for _, g := range got {
		found[g.Envelope.ID.String()] = g.Body
	}
	for id, n := range acknowledged {
		if body, ok := found[id]; !ok || body != strings.Repeat(id, n) {
			t.Errorf("%s was acknowledged; in the archive: %v with %d bytes", id, ok, len(body))
		}
	}
	if len(acknowledged) < 2000 || damaged != 0 || len(found) != len(got) {
		t.Errorf("%d acknowledged, %d records of %d messages, %d damaged bytes", len(acknowledged), len(got), len(found), damaged)
	}
	segments, err := Segments(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range segments {
		if s.Open {
			t.Errorf("%s was not recovered", s.Name)
		}
	}
	w.Close()
}
