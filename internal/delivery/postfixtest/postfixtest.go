// Package postfixtest starts a real Postfix for tests, with its own queue and
// configuration: a Server is a primary that delivers example.test into
// maildirs, an Instance whatever its configuration makes it.
package postfixtest

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"understudy/internal/freeport"
	"understudy/internal/wait"
)

//go:embed main.cf
var mainTemplate string

//go:embed master.cf
var masterTemplate string

const mailUID = 21000 // of no account: Postfix needs none

// Options are added to the configuration.
type Options struct {
	Main   string // lines of main.cf
	Master string // lines of master.cf
}

// Server is a primary.
type Server struct {
	Dir  string // of its configuration and everything else
	SMTP string // "host:port"

	instance *Instance
	tb       testing.TB
	runs     bool
	access   map[string]string
}

// Start makes and starts an instance; it is stopped and removed when the
// test ends. It accepts mail for example.test; the log is Dir/log.
func Start(tb testing.TB, o Options) *Server {
	tb.Helper()
	s := &Server{SMTP: freeport.For(tb), tb: tb, access: map[string]string{}}
	r := strings.NewReplacer("@SMTP@", s.SMTP, "@UID@", strconv.Itoa(mailUID))
	s.instance = New(tb, r.Replace(Main+mainTemplate+o.Main), r.Replace(masterTemplate+Services+o.Master))
	s.Dir = s.instance.Dir
	if err := errors.Join(os.Mkdir(s.maildirs(), 0o755), os.Chown(s.maildirs(), mailUID, mailUID)); err != nil {
		tb.Fatal(err)
	}
	s.Refuse("", "")
	s.writeMailboxes()
	s.Run()
	tb.Cleanup(s.Stop)
	return s
}

func (s *Server) maildirs() string { return filepath.Join(s.Dir, "mail") }

func (s *Server) writeMailboxes() {
	s.tb.Helper()
	var users strings.Builder
	for _, u := range append(strings.Split("abcdefghijklmnopqrstuvwxyz", ""), "ana", "bruno", "carla", "dora", "later") {
		fmt.Fprintf(&users, "%s@example.test example.test/%s/\n", u, u)
	}
	s.Write("mailboxes", users.String())
}

// Run starts the instance again after Stop.
func (s *Server) Run() {
	s.tb.Helper()
	if err := s.instance.Start(context.Background(), s.SMTP); err != nil {
		s.tb.Fatal(err)
	}
	s.runs = true
}

// Stop stops the instance; it is no error if it does not run.
func (s *Server) Stop() {
	if s.runs {
		s.runs = false
		s.run("postfix", "-c", s.Dir, "abort")
	}
}

// Refuse makes the instance answer RCPT for an address with an access(5)
// action such as "550 5.7.1 no"; an empty action accepts again. Connections
// that are open keep what they have.
func (s *Server) Refuse(address, action string) {
	s.tb.Helper()
	delete(s.access, address)
	if action != "" {
		s.access[address] = action
	}
	var text strings.Builder
	for a, x := range s.access {
		fmt.Fprintf(&text, "%s %s\n", a, x)
	}
	s.Write("access", text.String())
	s.run("postmap", "-c", s.Dir, "hash:"+filepath.Join(s.Dir, "access"))
}

// Mail returns the messages in the maildir of an address, as they lie on
// disk, in no order.
func (s *Server) Mail(address string) []string {
	s.tb.Helper()
	local, domain, _ := strings.Cut(address, "@")
	files, err := filepath.Glob(filepath.Join(s.maildirs(), domain, local, "new", "*"))
	if err != nil {
		s.tb.Fatal(err)
	}
	out := make([]string, 0, len(files))
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			s.tb.Fatal(err)
		}
		out = append(out, string(text))
	}
	return out
}

// Await waits until the maildir of an address holds at least n messages, and
// returns them.
func (s *Server) Await(address string, n int) []string {
	s.tb.Helper()
	var mail []string
	wait.Until(s.tb, "mail of "+address, func() error {
		if mail = s.Mail(address); len(mail) < n {
			return fmt.Errorf("%d messages, want %d\n%s", len(mail), n, s.instance.Log())
		}
		return nil
	})
	return mail
}

// Write writes a file into the instance's directory.
func (s *Server) Write(name, text string) {
	s.tb.Helper()
	if err := os.WriteFile(filepath.Join(s.Dir, name), []byte(text), 0o644); err != nil {
		s.tb.Fatal(err)
	}
}

func (s *Server) run(name string, args ...string) {
	s.tb.Helper()
	if err := s.instance.Command(context.Background(), name, args...); err != nil {
		s.tb.Fatal(err)
	}
}
