package story

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"understudy/internal/stack"
)

// TestFailModes shows each row of the README's fail-mode table on one stack:
// what a service answers when PostgreSQL or a peer is gone. The rows about
// full disks are milter's own tests.
func TestFailModes(t *testing.T) {
	t.Parallel()
	s, st := newStack(t)
	rows := []struct {
		name string
		show func(*testing.T, *Story, *stack.Stack)
	}{
		{"milter without PostgreSQL accepts and archives", milterWithoutPostgres},
		{"milter gone: 451", milterGone},
		{"policyd without PostgreSQL answers from its file", policydWithoutPostgres},
		{"policyd gone: 451, queued mail stays", policydGone},
		{"dovecot-auth without PostgreSQL logs in from its file", authWithoutPostgres},
		{"dovecot-auth gone: temporary failures", authGone},
		{"worker without PostgreSQL waits", workerWithoutPostgres},
		{"worker gone: each message falls back, nothing switches", workerGone},
		{"admin without PostgreSQL says so", adminWithoutPostgres},
		{"admin gone: mail is not affected", adminGone},
		{"portal gone in an emergency: mail waits in the queue", portalGone},
		{"portal disk full in an emergency: mail waits in the queue", portalDiskFull},
		{"state disk full: services go on and take changes", stateDiskFull},
	}
	for _, row := range rows {
		if !t.Run(row.name, func(t *testing.T) { row.show(t, s, st) }) {
			return // the rows share the stack
		}
	}
}

// down stops a component until the test ends.
func down(t *testing.T, st *stack.Stack, component stack.Component) (up func()) {
	t.Helper()
	if err := st.Stop(t.Context(), component); err != nil {
		t.Fatal(err)
	}
	started := false
	up = func() {
		if started {
			return
		}
		started = true
		if err := st.Start(context.WithoutCancel(t.Context()), component); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(up)
	return up
}

// arrives sends a letter from the internet to a user and waits for it at the
// primary.
func arrives(t *testing.T, s *Story, user int) letter {
	t.Helper()
	l := newLetter("stranger@internet.test", s.user(user).Address, t.Name())
	if err := send(s.info.SMTP, l.from, []string{l.to}, l.text); err != nil {
		t.Fatal(err)
	}
	if err := s.atPrimary(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	return l
}

// refused sends a letter that must be refused with a code and a text.
func refused(t *testing.T, s *Story, code int, text string) letter {
	t.Helper()
	l := newLetter("stranger@internet.test", s.user(0).Address, t.Name())
	got, words := refusal(send(s.info.SMTP, l.from, []string{l.to}, l.text))
	if got != code || !strings.Contains(words, text) {
		t.Fatalf("got %q, want %d %s", words, code, text)
	}
	return l
}

func restart(t *testing.T, st *stack.Stack, component stack.Component) {
	t.Helper()
	if err := st.Kill9(t.Context(), component); err != nil {
		t.Fatal(err)
	}
	if err := st.Start(t.Context(), component); err != nil {
		t.Fatal(err)
	}
}

func milterWithoutPostgres(t *testing.T, s *Story, st *stack.Stack) {
	up := down(t, st, "postgres")
	restart(t, st, "milter")
	l := arrives(t, s, 0)
	if !strings.Contains(s.archiveText(t), l.token) {
		t.Error("accepted and not archived")
	}
	up()
	if err := s.archived(t.Context(), l, "inbound"); err != nil {
		t.Error(err)
	}
}

func milterGone(t *testing.T, s *Story, st *stack.Stack) {
	up := down(t, st, "milter")
	refused(t, s, 451, "4.7.1")
	up()
	arrives(t, s, 0)
}

func policydWithoutPostgres(t *testing.T, s *Story, st *stack.Stack) {
	down(t, st, "postgres")
	restart(t, st, "policyd")
	arrives(t, s, 1)
}

func policydGone(t *testing.T, s *Story, st *stack.Stack) {
	up := down(t, st, "policyd")
	refused(t, s, 451, "4.3")
	up()
	arrives(t, s, 0)
}

func authWithoutPostgres(t *testing.T, s *Story, st *stack.Stack) {
	down(t, st, "postgres")
	restart(t, st, "dovecot-auth")
	login(t, s)
}

func login(t *testing.T, s *Story) {
	t.Helper()
	u := s.user(0)
	m, err := openMailbox(s.info.IMAP, u.Address, u.Password)
	if err != nil {
		t.Fatal(err)
	}
	m.close()
}

func authGone(t *testing.T, s *Story, st *stack.Stack) {
	up := down(t, st, "dovecot-auth")
	u := s.user(0)
	_, err := openMailbox(s.info.IMAP, u.Address, u.Password)
	var answer *imap.Error
	if !errors.As(err, &answer) || answer.Code != imap.ResponseCodeUnavailable {
		t.Errorf("IMAP login: %v, want [UNAVAILABLE]", err)
	}
	err = submit(s.info.Submission, u.Address, u.Password, []string{"a@internet.test"}, newLetter(u.Address, "a@internet.test", "x").text)
	if code, text := refusal(err); code/100 != 4 && code != 0 {
		t.Errorf("submission: %s, want a temporary failure", text)
	}
	up()
	login(t, s)
}

func workerWithoutPostgres(t *testing.T, s *Story, st *stack.Stack) {
	up := down(t, st, "postgres")
	health := strings.TrimSuffix(s.info.Metrics["worker"], "/metrics") + "/healthz"
	status := func(want int) {
		t.Helper()
		waitFor(t, "worker's health", func() error {
			got, err := getStatus(t.Context(), health)
			if err == nil && got != want {
				err = fmt.Errorf("status %d, want %d", got, want)
			}
			return err
		})
	}
	status(http.StatusServiceUnavailable)
	up()
	status(http.StatusOK)
}

func workerGone(t *testing.T, s *Story, st *stack.Stack) {
	up := down(t, st, "worker")
	if err := shell(t.Context(), s.info.Primary.Stop); err != nil {
		t.Fatal(err)
	}
	defer shell(context.WithoutCancel(t.Context()), s.info.Primary.Start) //nolint:errcheck // checked below on the good path
	var sent []letter
	for i := range 5 {
		l := newLetter("stranger@internet.test", s.user(i%3).Address, t.Name())
		if err := send(s.info.SMTP, l.from, []string{l.to}, l.text); err != nil {
			t.Fatal(err)
		}
		if err := s.inPortal(t.Context(), s.user(i%3), l); err != nil {
			t.Fatal(err)
		}
		sent = append(sent, l)
	}
	if err := s.waitMode(t.Context(), "normal"); err != nil {
		t.Error("without its worker the domain was switched:", err)
	}
	if err := shell(t.Context(), s.info.Primary.Start); err != nil {
		t.Fatal(err)
	}
	up()
	for _, l := range sent {
		if err := s.atPrimary(t.Context(), l); err != nil {
			t.Error(err)
		}
	}
}

func adminWithoutPostgres(t *testing.T, s *Story, st *stack.Stack) {
	up := down(t, st, "postgres")
	begin := time.Now()
	enter := func() error {
		_, err := signIn(t.Context(), s.info.Portal, s.info.Operator.Login, s.info.Operator.Password)
		return err
	}
	if err := enter(); err == nil || !strings.Contains(err.Error(), "503") || !strings.Contains(strings.ToLower(err.Error()), "mail is not affected") {
		t.Errorf("website: %v; want status 503 and words", err)
	}
	if wait := time.Since(begin); wait > time.Minute {
		t.Errorf("it took %s to say so", wait)
	}
	if out, err := s.cli(t.Context(), "status"); err == nil {
		t.Errorf("status exits 0 without PostgreSQL: %s", out)
	}
	up()
	waitFor(t, "the website", enter)
}

func adminGone(t *testing.T, s *Story, st *stack.Stack) {
	down(t, st, "admin")
	arrives(t, s, 2)
	login(t, s)
}

func portalGone(t *testing.T, s *Story, st *stack.Stack) {
	ctx := t.Context()
	if _, err := s.cli(ctx, "mode", s.info.Domain, "emergency", "--reason", "fail-mode test"); err != nil {
		t.Fatal(err)
	}
	if err := s.refusesUnregistered(ctx); err != nil {
		t.Fatal(err)
	}
	up := down(t, st, stack.Dovecot)
	l := newLetter("stranger@internet.test", s.user(1).Address, t.Name())
	if err := send(s.info.SMTP, l.from, []string{l.to}, l.text); err != nil {
		t.Fatal(err)
	}
	if err := s.deferred(ctx, l.to); err != nil {
		t.Error(err)
	}
	up()
	if err := shell(ctx, fmt.Sprintf("postqueue -c %s -f", s.info.PostfixConfig)); err != nil {
		t.Fatal(err)
	}
	if err := s.inPortal(ctx, s.user(1), l); err != nil {
		t.Error(err)
	}
	if _, err := s.cli(ctx, "mode", s.info.Domain, "normal", "--reason", "fail-mode test"); err != nil {
		t.Fatal(err)
	}
	if err := s.atPrimary(ctx, l); err != nil {
		t.Error(err)
	}
}

// fullDisk covers a directory with a tiny file system that has no room left,
// until the returned function or the test's end uncovers it.
func fullDisk(t *testing.T, dir string) (free func()) {
	t.Helper()
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	mounted := true
	free = func() {
		if mounted {
			mounted = false
			if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(free)
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		if err := os.Chown(dir, int(stat.Uid), int(stat.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filling %s: %v", dir, err)
	}
	return free
}

func portalDiskFull(t *testing.T, s *Story, st *stack.Stack) {
	ctx := t.Context()
	if _, err := s.cli(ctx, "mode", s.info.Domain, "emergency", "--reason", "fail-mode test"); err != nil {
		t.Fatal(err)
	}
	if err := s.refusesUnregistered(ctx); err != nil {
		t.Fatal(err)
	}
	free := fullDisk(t, filepath.Join(st.Dir(), "dovecot", "mail"))
	l := newLetter("stranger@internet.test", s.user(2).Address, t.Name())
	if err := send(s.info.SMTP, l.from, []string{l.to}, l.text); err != nil {
		t.Fatal(err)
	}
	if err := s.deferred(ctx, l.to); err != nil {
		t.Error(err)
	}
	free()
	if err := shell(ctx, fmt.Sprintf("postqueue -c %s -f", s.info.PostfixConfig)); err != nil {
		t.Fatal(err)
	}
	if err := s.inPortal(ctx, s.user(2), l); err != nil {
		t.Error(err)
	}
	if _, err := s.cli(ctx, "mode", s.info.Domain, "normal", "--reason", "fail-mode test"); err != nil {
		t.Fatal(err)
	}
	if err := s.atPrimary(ctx, l); err != nil {
		t.Error(err)
	}
}

func stateDiskFull(t *testing.T, s *Story, st *stack.Stack) {
	for _, service := range []string{"policyd", "dovecot-auth"} {
		fullDisk(t, filepath.Join(st.Dir(), "state", service))
	}
	// A change arrives although it cannot be saved: the new alias is known and its mail is taken.
	alias := "alias-of-ana@" + s.info.Domain
	if _, err := s.cli(t.Context(), "alias", "add", alias, s.user(0).Address); err != nil {
		t.Fatal(err)
	}
	if _, err := s.cli(t.Context(), "mode", s.info.Domain, "emergency", "--reason", "fail-mode test"); err != nil {
		t.Fatal(err)
	}
	if err := s.refusesUnregistered(t.Context()); err != nil {
		t.Fatal(err)
	}
	l := newLetter("stranger@internet.test", alias, t.Name())
	if err := send(s.info.SMTP, l.from, []string{l.to}, l.text); err != nil {
		t.Fatal(err)
	}
	if err := s.inPortal(t.Context(), s.user(0), l); err != nil {
		t.Error(err)
	}
	for _, service := range []string{"policyd", "dovecot-auth"} {
		waitFor(t, service+"'s word that it cannot save its directory", func() error {
			log, err := os.ReadFile(filepath.Join(st.Dir(), "log", service+".log"))
			if err == nil && !strings.Contains(string(log), "directory not saved") {
				err = errors.New("not in its log")
			}
			return err
		})
	}
}

// getStatus asks a web server and returns the status it answers.
func getStatus(ctx context.Context, url string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, dialogueTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body) //nolint:errcheck // only the status counts
	return resp.StatusCode, nil
}
