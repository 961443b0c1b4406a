package main

import (
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"understudy/internal/wait"
)

// TestConnectionsWaitForTheDirectory: while a large one is being loaded,
// Dovecot is not refused (logins and deliveries would fail) but waits.
func TestConnectionsWaitForTheDirectory(t *testing.T) {
	t.Parallel()
	cfg := newConfig(t, shortDir(t), people())
	file := directoryFile(cfg)
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
	go func() {
		err := wait.For(t.Context(), time.Minute, 10*time.Millisecond, func() error {
			c, err := net.Dial("unix", strings.TrimPrefix(cfg.LuaListen, "unix:"))
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
	s := start(t, cfg)
	if got := s.line(t, login("ana@example.test", anaPassword)); !strings.HasPrefix(got, "OK\tuser=ana@example.test\t") {
		t.Errorf("got %q", got)
	}
}
