// Package dovecottest runs a real Dovecot for tests, in a directory of its
// own.
package dovecottest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"understudy/internal/wait"
)

// Server is a Dovecot whose configuration is Dir/dovecot.conf.
type Server struct {
	Dir string

	tb        testing.TB
	addresses []string
	cmd       *exec.Cmd     // nil while it does not run
	ended     chan struct{} // closed when it has
	out       bytes.Buffer  // what it prints; to be read when it has ended
}

// New is a Dovecot in dir that is to listen on these addresses; its log is to
// be Dir/log. Run starts it; it is stopped when the test ends.
func New(tb testing.TB, dir string, addresses ...string) *Server {
	tb.Helper()
	s := &Server{Dir: dir, tb: tb, addresses: addresses}
	tb.Cleanup(func() {
		s.Stop()
		if tb.Failed() {
			tb.Logf("Dovecot's log ends:\n%s", s.logged())
		}
	})
	return s
}

// Write writes a file into Dir.
func (s *Server) Write(name, text string) {
	s.tb.Helper()
	if err := os.WriteFile(filepath.Join(s.Dir, name), []byte(text), 0o644); err != nil {
		s.tb.Fatal(err)
	}
}

// Run starts the server, also again after Stop, and waits until it listens.
func (s *Server) Run() {
	s.tb.Helper()
	s.out.Reset()
	cmd := exec.Command("dovecot", "-F", "-c", filepath.Join(s.Dir, "dovecot.conf"))
	cmd.Stdout, cmd.Stderr = &s.out, &s.out
	if err := cmd.Start(); err != nil {
		s.tb.Fatalf("%v (apt-get install dovecot-imapd dovecot-pop3d dovecot-lmtpd)", err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }() //nolint:errcheck // its exit code does not matter
	s.cmd, s.ended = cmd, ended
	wait.Until(s.tb, "Dovecot listens", func() error {
		select {
		case <-ended:
			return wait.Never(fmt.Errorf("it ended: %s\n%s", &s.out, s.logged()))
		default:
		}
		if err := wait.Listen(s.addresses...); err != nil {
			return errors.Join(err, errors.New(s.logged()))
		}
		return nil
	})
}

// Stop ends the server and its processes, at once if it does not within a
// minute; it is no error if it does not run.
func (s *Server) Stop() {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may be gone
	select {
	case <-s.ended:
	case <-time.After(time.Minute):
		s.cmd.Process.Kill() //nolint:errcheck // it may be gone
		<-s.ended
	}
	s.cmd = nil
}

// logged is the end of the log.
func (s *Server) logged() string {
	text, _ := os.ReadFile(filepath.Join(s.Dir, "log"))
	return string(text[max(0, len(text)-8000):])
}
