package main

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"understudy/internal/directory/directorytest"
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
	given := directorytest.Slow(t, filepath.Join(s.dir, "directory.json"), func() error {
		c, err := net.Dial("unix", s.socket)
		if err == nil {
			c.Close()
		}
		return err
	})
	s.start(t)
	<-given
}
