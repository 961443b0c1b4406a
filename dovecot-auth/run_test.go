package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy/dovecot-auth/tabline"
)

func login(user, secret string) string {
	return strings.TrimSuffix(tabline.Join("A", "imap", "192.0.2.7", user, secret), "\n")
}

func TestServiceWithoutPostgreSQL(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	s := start(t, newConfig(t, dir, people()))
	ana := "OK\tuser=ana@example.test\tuid=21000\tgid=21000\thome=" + dir + "/mail/example.test/ana\tquota=1073741824B"
	bruno := "OK\tuser=bruno@example.test\tuid=21000\tgid=21000\thome=" + dir + "/mail/example.test/bruno\tquota=3145728B"
	for _, tc := range []struct{ name, request, want string }{
		{"right password", login("ana@example.test", anaPassword), ana},
		{"alias", login("sales@example.test", anaPassword), ana},
		{"other spelling", login("ANA+tag@EXAMPLE.test.", anaPassword), ana},
		{"app password", login("ana@example.test", hashes().app), ana},
		{"mailbox's own quota", login("bruno@example.test", password2), bruno},
		{"wrong password", login("ana@example.test", "wrong"), "BAD"},
		{"another's password", login("ana@example.test", password2), "BAD"},
		{"empty password", login("ana@example.test", ""), "BAD"},
		{"unknown mailbox", login("nobody@example.test", password2), "UNKNOWN"},
		{"unknown domain", login("ana@example.com", anaPassword), "UNKNOWN"},
		{"no address", login("ana", anaPassword), "UNKNOWN"},
		{"disabled, right password", login("carla@example.test", password2), "BAD"},
		{"without a password", login("nopass@example.test", ""), "BAD"},
		{"endless password", login("ana@example.test", strings.Repeat("x", 9000)), "BAD"},
		{"userdb", "U\tsales+x@example.test", ana},
		{"userdb of a disabled one", "U\tcarla@example.test", strings.ReplaceAll(ana, "ana", "carla")},
		{"userdb, UTF-8", "U\t\u00c9lodie@example.test", "OK\tuser=\u00e9lodie@example.test\tuid=21000\tgid=21000\thome=" + dir +
			"/mail/example.test/=c3=a9lodie\tquota=1073741824B"},
		{"userdb, unknown", "U\tnobody@example.test", "UNKNOWN"},
		{"passdb", "P\tana@example.test", ana},
		{"passdb, unknown", "P\tnobody@example.test", "UNKNOWN"},
		{"not a request", "Q\tana@example.test", "TEMP\tunknown request"},
		{"fields missing", "A\timap\t\tana@example.test", "TEMP\tunknown request"},
		{"endless lookup", "U\t" + strings.Repeat("x", 9000), "TEMP\trequest is too long"},
	} {
		if got := s.line(t, tc.request); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
	if status, body := s.get(t, "/healthz"); status != http.StatusOK {
		t.Errorf("healthz: %d %s", status, body)
	}
	_, metrics := s.get(t, "/metrics")
	for _, want := range []string{`understudy_auth_logins_total{result="ok",service="imap"} 5`, `understudy_auth_lookups_total{result="ok"} 4`,
		"understudy_auth_login_seconds_count", "understudy_auth_verifier_busy_total 0", `understudy_auth_locked{kind="account"} 0`,
		"understudy_auth_cache_hits_total", `understudy_auth_open_connections{listener="lua"}`, "understudy_directory_connected 0"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}

func TestServiceNotLoaded(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	cfg := newConfig(t, dir, nil)
	if err := os.WriteFile(directoryFile(cfg), []byte(`{"format":1,"domains":[{`), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, cfg)
	for _, request := range []string{login("ana@example.test", anaPassword), "U\tana@example.test", "P\tana@example.test", "L"} {
		if got := s.line(t, request); !strings.HasPrefix(got, "TEMP\t") || !strings.Contains(got, "not loaded") {
			t.Errorf("%.10q: %q", request, got)
		}
	}
	if status, body := s.get(t, "/healthz"); status != http.StatusServiceUnavailable || !strings.Contains(body, "not loaded") {
		t.Errorf("healthz: %d %s", status, body)
	}
	if !strings.Contains(s.log.String(), "saved directory is unusable") {
		t.Errorf("log says nothing of the damaged file:\n%s", s.log)
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	s := start(t, newConfig(t, shortDir(t), people()))
	c, err := net.Dial("unix", strings.TrimPrefix(s.cfg.LuaListen, "unix:"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(2 * time.Minute))
	fmt.Fprint(c, "L\n")
	text := make([]byte, 4096)
	got := ""
	for !strings.HasSuffix(got, "END\n") {
		n, err := c.Read(text)
		if got += string(text[:n]); err != nil {
			t.Fatalf("list: %q, %v", got, err)
		}
	}
	const want = "u \"f g\"@example.test\nu ana@example.test\nu bruno@example.test\nu carla@example.test\nu elodie@example.test\nu nopass@example.test\nu élodie@example.test\nEND\n"
	if got != want {
		t.Errorf("list:\n%swant:\n%s", got, want)
	}
}

// A lock, with its failures, outlives the service.
func TestLockoutOutlivesRestart(t *testing.T) {
	t.Parallel()
	cfg := newConfig(t, shortDir(t), people())
	cfg.Lockout.Delay = 10 * time.Minute
	s := start(t, cfg)
	for n := range 5 {
		if got := s.line(t, login("ana@example.test", fmt.Sprint("wrong ", n))); got != "BAD" {
			t.Errorf("wrong password: %q", got)
		}
	}
	for range 2 {
		for _, user := range []string{"ana@example.test", "sales@example.test"} {
			got := s.line(t, login(user, anaPassword))
			if !strings.HasPrefix(got, "LOCKED\tToo many wrong passwords. Try again in ") {
				t.Errorf("right password while locked: %q", got)
			}
		}
		if got := s.line(t, "U\tana@example.test"); !strings.HasPrefix(got, "OK\t") {
			t.Errorf("mail while locked: %q", got)
		}
		s.stop()
		s = start(t, cfg)
	}
}

func TestCommand(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	bin := build(t, dir)
	cfg := newConfig(t, dir, people())
	good := configText(cfg)
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	goodFile := write("good.yml", good)
	for _, tc := range []struct {
		name   string
		args   []string
		status int
		want   string
	}{
		{"good", []string{"-config", goodFile, "-check"}, 0, ""},
		{"no arguments", nil, 1, "/etc/understudy/dovecot-auth.yml"},
		{"unknown flag", []string{"-conf", goodFile}, 2, "flag provided but not defined"},
		{"argument left over", []string{"-config", goodFile, "x"}, 2, "usage:"},
		{"no file", []string{"-config", dir + "/none.yml", "-check"}, 1, "no such file"},
		{"unknown key", []string{"-config", write("a.yml", good+"verify: 3\n"), "-check"}, 1, "verify"},
		{"wrong uid", []string{"-config", write("b.yml", strings.Replace(good, "mail_uid: 21000", "mail_uid: 0", 1)), "-check"}, 1, "mail_uid"},
		{"relative", []string{"-config", write("c.yml", strings.Replace(good, "mail_directory: /", "mail_directory: ", 1)), "-check"}, 1, "absolute"},
		{"bad network", []string{"-config", write("d.yml", strings.Replace(good, "127.0.0.1,", "localhost,", 1)), "-check"}, 1, "exempt_addresses"},
		{"socket elsewhere", []string{"-config", write("e.yml", strings.Replace(good, "unix:", "tcp:", 1))}, 1, "want unix:/path"},
	} {
		out, err := exec.Command(bin, tc.args...).CombinedOutput()
		status := 0
		if exit, ok := err.(*exec.ExitError); ok {
			status = exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		if status != tc.status || !strings.Contains(string(out), tc.want) || tc.want == "" && len(out) > 0 {
			t.Errorf("%s: status %d, want %d: %s", tc.name, status, tc.status, out)
		}
	}

	s := startProcess(t, bin, goodFile, cfg)
	if got := s.line(t, login("ana@example.test", anaPassword)); !strings.HasPrefix(got, "OK\t") {
		t.Errorf("login: %q", got)
	}
	s.stop() // with SIGTERM
	for _, secret := range []string{anaPassword, "$argon2id"} {
		if strings.Contains(s.log.String(), secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
}
