// Package postfixtest starts a real Postfix for tests, with its own queue and
// configuration: by default a primary that delivers example.test into
// maildirs.
package postfixtest

import (
	"context"
	_ "embed"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy/internal/freeport"
)

//go:embed main.cf
var mainTemplate string

//go:embed master.cf
var masterTemplate string

const mailUID = "21000" // of no account: Postfix needs none

// Options are added to the configuration.
type Options struct {
	Main   string // lines of main.cf
	Master string // lines of master.cf
}

// Server is a Postfix instance.
type Server struct {
	Dir    string // of its configuration and everything else
	SMTP   string // "host:port"
	tb     testing.TB
	runs   bool
	access map[string]string
}

// Start makes and starts an instance; it is stopped and removed when the
// ends. It accepts mail for example.test; the log is Dir/log.
func Start(tb testing.TB, o Options) *Server {
	tb.Helper()
	// Not tb.TempDir: mail is written by users that cannot enter that.
	dir, err := os.MkdirTemp("", "postfixtest-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	s := &Server{Dir: dir, SMTP: freeport.For(tb), tb: tb, access: map[string]string{}}
	r := strings.NewReplacer("@DIR@", dir, "@SMTP@", s.SMTP, "@UID@", mailUID)
	s.prepare(r.Replace(mainTemplate+o.Main), r.Replace(masterTemplate+o.Master))
	s.Run()
	tb.Cleanup(s.Stop)
	return s
}

func (s *Server) prepare(mainText, masterText string) {
	s.tb.Helper()
	for _, d := range []string{"", "queue", "data", "mail"} {
		path := filepath.Join(s.Dir, d)
		if err := os.MkdirAll(path, 0o755); err != nil {
			s.tb.Fatal(err)
		}
		if err := os.Chmod(path, 0o755); err != nil {
			s.tb.Fatal(err)
		}
	}
	s.run("chown", "postfix", filepath.Join(s.Dir, "data"))
	s.run("chown", mailUID+":"+mailUID, filepath.Join(s.Dir, "mail"))
	s.Write("main.cf", mainText)
	s.Write("master.cf", masterText)
	s.Refuse("", "")
	var users strings.Builder
	for _, u := range append(strings.Split("abcdefghijklmnopqrstuvwxyz", ""), "ana", "bruno", "carla", "dora", "later") {
		fmt.Fprintf(&users, "%s@example.test example.test/%s/\n", u, u)
	}
	s.Write("mailboxes", users.String())
}

// Run starts the instance again after Stop.
func (s *Server) Run() {
	s.tb.Helper()
	s.run("postfix", "-c", s.Dir, "start")
	s.runs = true
	if err := await(s.SMTP); err != nil {
		text, _ := os.ReadFile(filepath.Join(s.Dir, "log"))
		s.tb.Fatalf("Postfix does not start: %v\n%s", err, text)
	}
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
	files, err := filepath.Glob(filepath.Join(s.Dir, "mail", domain, local, "new", "*"))
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
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for time.Now().Before(deadline) {
		if mail := s.Mail(address); len(mail) >= n {
			return mail
		}
		<-tick.C
	}
	text, _ := os.ReadFile(filepath.Join(s.Dir, "log"))
	s.tb.Fatalf("%s has %d messages, want %d\n%s", address, len(s.Mail(address)), n, text)
	return nil
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
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	// A file, not a pipe: daemons that are left behind would hold a pipe open.
	out, err := os.Create(filepath.Join(s.Dir, "command.out"))
	if err != nil {
		s.tb.Fatal(err)
	}
	defer out.Close()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(out.Name())
		log, _ := os.ReadFile(filepath.Join(s.Dir, "log"))
		s.tb.Fatalf("%s %v: %v: %s\n%s", name, args, err, text, log)
	}
}

// await waits until something listens.
func await(address string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}
