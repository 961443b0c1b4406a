package main

import (
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"understudy/internal/wait"
)

// TestConnectionsWaitForTheDirectory: while a large one is being loaded,
// Postfix is not refused (it would answer 451 by itself) but waits.
func TestConnectionsWaitForTheDirectory(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "milter-") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := newService(t, filepath.Join(dir, "s"), t.TempDir())
	file := filepath.Join(s.dir, "directory.json")
	saved, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(file, 0o600); err != nil { // is loaded when somebody writes
		t.Fatal(err)
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		err := wait.For(t.Context(), time.Minute, 10*time.Millisecond, func() error {
			c, err := net.Dial("unix", s.socket)
			if err == nil {
				c.Close()
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
		if err := os.WriteFile(file, saved, 0o600); err != nil {
			t.Error(err)
		}
	}()
	s.start(t)
	<-written
}
