// Package directorytest leaves saved directories for tests, as an earlier
// process of a service would have.
package directorytest

import (
	"encoding/json"
	"os"
	"syscall"
	"testing"
	"time"

	"understudy/internal/directory"
	"understudy/internal/wait"
)

// Save writes a full change as the file that Directory.Load reads (its format
// stands in internal/directory/file.go).
func Save(tb testing.TB, path string, c *directory.Change) {
	tb.Helper()
	rows, err := json.Marshal(c)
	if err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(path, append([]byte(`{"format":2,"lines":1}`+"\n"), append(rows, '\n')...), 0o600); err != nil {
		tb.Fatal(err)
	}
}

// Slow makes a saved directory one that takes long to load: until connect
// succeeds, which is tried for a minute. The channel is closed when it was
// given to who loads it.
func Slow(tb testing.TB, path string, connect func() error) (given <-chan struct{}) {
	tb.Helper()
	saved, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		tb.Fatal(err)
	}
	if err := syscall.Mkfifo(path, 0o600); err != nil { // reading it waits for who writes
		tb.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := wait.For(tb.Context(), time.Minute, 10*time.Millisecond, connect); err != nil {
			tb.Errorf("connect while the directory is being loaded: %v", err)
		}
		if err := os.WriteFile(path, saved, 0o600); err != nil {
			tb.Error(err)
		}
	}()
	return done
}
