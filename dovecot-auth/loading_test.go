package main

import (
	"net"
	"strings"
	"testing"

	"understudy/internal/directory/directorytest"
)

// TestConnectionsWaitForTheDirectory: while a large one is being loaded,
// Dovecot is not refused (logins and deliveries would fail) but waits.
func TestConnectionsWaitForTheDirectory(t *testing.T) {
	t.Parallel()
	cfg := newConfig(t, shortDir(t), people())
	given := directorytest.Slow(t, directoryFile(cfg), func() error {
		c, err := net.Dial("unix", strings.TrimPrefix(cfg.LuaListen, "unix:"))
		if err == nil {
			c.Close()
		}
		return err
	})
	s := start(t, cfg)
	<-given
	if got := s.line(t, login("ana@example.test", anaPassword)); !strings.HasPrefix(got, "OK\tuser=ana@example.test\t") {
		t.Errorf("got %q", got)
	}
}
