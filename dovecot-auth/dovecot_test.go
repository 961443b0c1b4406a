package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"understudy/internal/password"
)

func wantPrefix(t *testing.T, what, got, want string) {
	t.Helper()
	if !strings.HasPrefix(got, want) {
		t.Errorf("%s: %q, want %q...", what, got, want)
	}
}

// subjects are those of the messages in a client's INBOX, by IMAP.
func subjects(t *testing.T, c *client) string {
	t.Helper()
	c.imap("SELECT INBOX")
	lines, reply := c.imap("FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT)]")
	for !strings.HasPrefix(reply, "a ") { // the literals' own lines
		lines, reply = append(lines, reply), c.line()
		if strings.HasPrefix(reply, "closed") {
			t.Fatal(reply)
		}
	}
	var out []string
	for _, l := range lines {
		if s, ok := strings.CutPrefix(l, "Subject: "); ok {
			out = append(out, s)
		}
	}
	return strings.Join(out, ", ")
}

func TestDovecotLogins(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	cfg := newConfig(t, dir, people())
	start(t, cfg)
	d := startDovecot(t, dir, cfg)
	for _, tc := range []struct{ name, user, password, imap, pop3 string }{
		{"right", "ana@example.test", anaPassword, "a OK ", "+OK"},
		{"upper case", "Ana@Example.Test", anaPassword, "a OK ", "+OK"},
		{"alias", "sales@example.test", anaPassword, "a OK ", "+OK"},
		{"with detail", "ana+x@example.test", anaPassword, "a OK ", "+OK"},
		{"app password", "ana@example.test", hashes().app, "a OK ", "+OK"},
		{"UTF-8 name", "\u00e9lodie@example.test", password2, "a OK ", "+OK"},
		{"wrong", "bruno@example.test", "wrong", "a NO [AUTHENTICATIONFAILED]", "-ERR [AUTH]"},
		{"unknown", "nobody@example.test", password2, "a NO [AUTHENTICATIONFAILED]", "-ERR [AUTH]"},
		{"foreign", "bruno@example.com", password2, "a NO [AUTHENTICATIONFAILED]", "-ERR [AUTH]"},
		{"outbound account", "relay-1", password2, "a NO [AUTHENTICATIONFAILED]", "-ERR [AUTH]"},
		{"disabled", "carla@example.test", password2, "a NO [AUTHENTICATIONFAILED]", "-ERR [AUTH]"},
		{"another's app password", "bruno@example.test", hashes().app, "a NO [AUTHENTICATIONFAILED]", "-ERR [AUTH]"},
		{"tab in the password", "bruno@example.test", "second\tbest", "a NO [AUTHENTICATIONFAILED]", "-ERR [AUTH]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, reply := imapLogin(t, d, tc.user, tc.password)
			wantPrefix(t, "IMAP", reply, tc.imap)
			_, reply = pop3Login(t, d, tc.user, tc.password)
			wantPrefix(t, "POP3", reply, tc.pop3)
		})
	}
}

func TestDovecotLocked(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	cfg := newConfig(t, dir, people())
	cfg.Lockout.Failures, cfg.Lockout.Delay = 2, 10*time.Minute
	start(t, cfg)
	d := startDovecot(t, dir, cfg)
	for n := range 2 {
		_, reply := imapLogin(t, d, "sales@example.test", fmt.Sprint("wrong ", n))
		wantPrefix(t, "wrong password", reply, "a NO [AUTHENTICATIONFAILED]")
	}
	_, reply := imapLogin(t, d, "ana@example.test", anaPassword)
	wantPrefix(t, "IMAP while locked", reply, "a NO [CONTACTADMIN] Too many wrong passwords. Try again in ")
	_, reply = pop3Login(t, d, "ana@example.test", anaPassword)
	wantPrefix(t, "POP3 while locked", reply, "-ERR [AUTH] Too many wrong passwords. Try again in ")
	wantPrefix(t, "LMTP while locked", deliver(t, d, "ana@example.test", 100), "250 ")
	wantPrefix(t, "LMTP to a quoted name", deliver(t, d, `"F g"@example.test`, 100), "250 ")
	c, reply := imapLogin(t, d, "ana@example.test*drain", drainPassword)
	wantPrefix(t, "master user while locked", reply, "a OK ")
	if got := subjects(t, c); got != "to ana@example.test" {
		t.Errorf("the master user sees %q", got)
	}
	_, reply = imapLogin(t, d, "ana@example.test*drain", "wrong")
	wantPrefix(t, "wrong master password", reply, "a NO [AUTHENTICATIONFAILED]")
}

func TestDovecotDelivery(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	cfg := newConfig(t, dir, people())
	start(t, cfg)
	d := startDovecot(t, dir, cfg)
	for recipient, want := range map[string]string{
		"ana@example.test":         "250 ",
		"sales@example.test":       "250 ",
		"SALES+offer@example.test": "250 ",
		"carla@example.test":       "250 ", // may not log in, but gets mail
		"nobody@example.test":      "550 5.1.1 ",
		"ana@example.com":          "550 5.1.1 ",
	} {
		wantPrefix(t, "to "+recipient, deliver(t, d, recipient, 100), want)
	}
	for _, user := range []string{"ana@example.test", "sales@example.test"} {
		c, reply := imapLogin(t, d, user, anaPassword)
		wantPrefix(t, user, reply, "a OK ")
		got := subjects(t, c)
		for _, want := range []string{"to ana@", "to sales@", "to SALES+offer@"} {
			if !strings.Contains(got, want) || strings.Count(got, "to ") != 3 {
				t.Errorf("INBOX of %s: %s", user, got)
			}
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "mail/example.test/ana/sdbox")); err != nil || !info.IsDir() {
		t.Errorf("home of ana: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "mail/example.test/sales")); err == nil {
		t.Error("the alias has a home of its own")
	}
	out, err := exec.Command("doveadm", "-c", filepath.Join(dir, "dovecot.conf"), "user", "*").CombinedOutput()
	if want := "\"f g\"@example.test\nana@example.test\nbruno@example.test\ncarla@example.test\nelodie@example.test\nnopass@example.test\n\u00e9lodie@example.test\n"; string(out) != want {
		t.Errorf("doveadm user '*' (%v):\n%swant:\n%s", err, out, want)
	}
}

func TestDovecotQuota(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	cfg := newConfig(t, dir, people())
	start(t, cfg)
	d := startDovecot(t, dir, cfg)
	for user, want := range map[string]string{"bruno@example.test": "STORAGE 0 3072", "elodie@example.test": "STORAGE 0 1048576"} {
		c, _ := imapLogin(t, d, user, password2)
		lines, _ := c.imap("GETQUOTAROOT INBOX")
		if got := strings.Join(lines, "\n"); !strings.Contains(got, want) {
			t.Errorf("quota of %s: %s, want %s", user, got, want)
		}
	}
	wantPrefix(t, "2 MB into 3 MiB", deliver(t, d, "bruno@example.test", 2_000_000), "250 ")
	wantPrefix(t, "2 MB more", deliver(t, d, "bruno@example.test", 2_000_000), "452 4.2.2")
}

// Never "unknown" when in doubt: the service is down, or has no directory.
func TestDovecotTrouble(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	cfg := newConfig(t, dir, nil)
	s := start(t, cfg)
	d := startDovecot(t, dir, cfg)
	check := func(state string) {
		t.Helper()
		_, reply := imapLogin(t, d, "ana@example.test", anaPassword)
		wantPrefix(t, state+", IMAP", reply, "a NO [UNAVAILABLE]")
		_, reply = pop3Login(t, d, "ana@example.test", anaPassword)
		wantPrefix(t, state+", POP3", reply, "-ERR [SYS/TEMP]")
		for _, recipient := range []string{"ana@example.test", "nobody@example.test"} {
			wantPrefix(t, state+", LMTP", deliver(t, d, recipient, 100), "451 4.3.0")
		}
		if out, err := exec.Command("doveadm", "-c", filepath.Join(dir, "dovecot.conf"), "user", "*").CombinedOutput(); err == nil {
			t.Errorf("%s, doveadm user '*': %s", state, out)
		}
	}
	check("directory not loaded")
	s.stop()
	check("service down")
	newConfig(t, dir, people()) // saves the directory
	start(t, cfg)
	_, reply := imapLogin(t, d, "ana@example.test", anaPassword)
	wantPrefix(t, "service is back", reply, "a OK ")
	wantPrefix(t, "service is back, LMTP", deliver(t, d, "ana@example.test", 100), "250 ")
}

// Not in parallel with other tests, and with the binary as it is in operation:
// a verification must not wait longer than the service allows.
func TestDovecotParallelLogins(t *testing.T) {
	dir := shortDir(t)
	change := people()
	for _, c := range change.Credentials {
		if c.Kind == "app" {
			continue
		}
		plain := password2
		if c.MailboxID == 1 {
			plain = anaPassword
		}
		var err error
		if c.Hash, err = password.Hash(plain); err != nil { // as costly as in operation
			t.Fatal(err)
		}
	}
	cfg := newConfig(t, dir, change)
	file := filepath.Join(dir, "dovecot-auth.yml")
	if err := os.WriteFile(file, []byte(configText(cfg)), 0o600); err != nil {
		t.Fatal(err)
	}
	startProcess(t, build(t, dir), file, cfg)
	d := startDovecot(t, dir, cfg)
	var right, wrong atomic.Int32
	parallel(50, func(i int) {
		user, secret := "ana@example.test", anaPassword
		if i%2 == 1 {
			user, secret = "bruno@example.test", password2
		}
		if i%10 == 9 {
			user = fmt.Sprintf("nobody%d@example.test", i)
		}
		switch _, reply := imapLogin(t, d, user, secret); {
		case strings.HasPrefix(reply, "a OK "):
			right.Add(1)
		case strings.HasPrefix(reply, "a NO [AUTHENTICATIONFAILED]"):
			wrong.Add(1)
		default:
			t.Errorf("%s: %s", user, reply)
		}
	})
	if right.Load() != 45 || wrong.Load() != 5 {
		t.Errorf("%d right and %d wrong, want 45 and 5", right.Load(), wrong.Load())
	}
}
