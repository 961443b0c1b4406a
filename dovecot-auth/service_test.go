package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"understudy/internal/directory"
	"understudy/internal/directory/directorytest"
	"understudy/internal/freeport"
	"understudy/internal/logtest"
	"understudy/internal/password"
	"understudy/internal/password/passwordtest"
	"understudy/internal/wait"
)

const (
	mailUID     = 21000 // owns the tests' mailboxes; no such user needs to exist
	mailGID     = 21000
	anaPassword = "Ana's \"quoted\" p\u00e4ssword \\ 1"
	password2   = "second-best-secret"
)

// hashes are made once for all tests.
var hashes = sync.OnceValue(func() (h struct{ ana, other, app, appHash string }) {
	h.ana, h.other = passwordtest.Hash(anaPassword), passwordtest.Hash(password2)
	var err error
	if h.app, h.appHash, err = password.NewApp(); err != nil {
		panic(err)
	}
	return h
})

// people is the directory of the tests.
func people() *directory.Change {
	box := func(id int64, address string, enabled bool, quota int64) *directory.Mailbox {
		return &directory.Mailbox{ID: id, DomainID: 1, Address: address, Covered: true, Enabled: enabled, QuotaBytes: quota, Version: id}
	}
	c := &directory.Change{Full: true, Epoch: "e", Version: 100,
		Domains: []*directory.Domain{{ID: 1, Name: "example.test", Primaries: []string{"127.0.0.1:25"}, Activation: directory.Manual,
			Scope: directory.ScopeAll, Mode: directory.Normal, RetentionDays: 90, OutboundNetworks: []netip.Prefix{}, Version: 1}},
		Mailboxes: []*directory.Mailbox{box(1, "ana@example.test", true, 0), box(2, "bruno@example.test", true, 3<<20),
			box(3, "carla@example.test", false, 0), box(4, "elodie@example.test", true, 0), box(5, "nopass@example.test", true, 0),
			box(6, "\u00e9lodie@example.test", true, 0), box(7, `"f g"@example.test`, true, 0)},
		Outbound: []*directory.OutboundAccount{{ID: 1, Name: "relay-1", DomainIDs: []int64{1}, Enabled: true, Hash: hashes().other, Version: 50},
			{ID: 2, Name: "relay-off", DomainIDs: []int64{1}, Hash: hashes().other, Version: 51}},
		Aliases: []*directory.Alias{{ID: 1, DomainID: 1, Address: "sales@example.test", MailboxID: 1, Version: 10}},
		Credentials: []*directory.Credential{
			{ID: 1, MailboxID: 1, Kind: "password", Hash: hashes().ana, Version: 20},
			{ID: 2, MailboxID: 1, Kind: "app", Label: "phone", Hash: hashes().appHash, Version: 21}},
	}
	for _, id := range []int64{2, 3, 4, 6} {
		c.Credentials = append(c.Credentials, &directory.Credential{ID: 10 + id, MailboxID: id, Kind: "password", Hash: hashes().other, Version: 30 + id})
	}
	return c
}

// service is a running understudy-dovecot-auth, with PostgreSQL down.
type service struct {
	cfg  *Config
	stop func() // idempotent; returns when the service has ended
	log  *logtest.Buffer
}

// shortDir makes a directory that other users may enter, with a path short
// enough for unix sockets.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "uda-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// newConfig makes a configuration below dir and saves the directory for it,
// unless change is nil.
func newConfig(t *testing.T, dir string, change *directory.Change) *Config {
	t.Helper()
	cfg := defaultConfig()
	cfg.Database.URL = "postgres://understudy_auth@" + freeport.For(t) + "/understudy" // nothing listens there
	cfg.StateDirectory = filepath.Join(dir, "state")
	cfg.MetricsListen = freeport.For(t)
	cfg.LuaListen = "unix:" + filepath.Join(dir, "sock", "lua")
	cfg.SASLListen = "unix:" + filepath.Join(dir, "sasl", "sasl")
	cfg.MailDirectory = filepath.Join(dir, "mail")
	cfg.MailUID, cfg.MailGID = mailUID, mailGID
	for _, d := range []string{"state", "sock", "sasl", "mail"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(cfg.MailDirectory, mailUID, mailGID); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		directorytest.Save(t, directoryFile(cfg), change)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// start runs the service in this process, until stop or the test's end.
func start(t *testing.T, cfg *Config) *service {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &service{cfg: cfg, log: &logtest.Buffer{}}
	ended := make(chan error, 1)
	go func() {
		defer close(ended) // stop looks as well
		ended <- run(ctx, cfg, slog.New(slog.NewTextHandler(s.log, nil)))
	}()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("service ended: %v", err)
		}
	})
	t.Cleanup(s.stop)
	wait.Until(t, "the service listens", func() error {
		select {
		case err := <-ended:
			t.Fatalf("service did not start: %v", err)
		default:
		}
		for _, address := range []string{cfg.LuaListen, cfg.SASLListen} {
			c, err := net.Dial("unix", strings.TrimPrefix(address, "unix:"))
			if err != nil {
				return err
			}
			c.Close()
		}
		return nil
	})
	return s
}

// build makes the binary, without the race detector: it runs as in operation.
func build(t *testing.T, dir string) string {
	t.Helper()
	bin := filepath.Join(dir, "understudy-dovecot-auth")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return bin
}

// configText is cfg as a file.
func configText(cfg *Config) string {
	return fmt.Sprintf("database:\n  url: %s\nstate_directory: %s\nmetrics_listen: %s\nlua_listen: %s\nsasl_listen: %s\n"+
		"mail_directory: %s\nmail_uid: %d\nmail_gid: %d\nlockout:\n  failures: 3\n  delay: 1m\n  exempt_addresses: [127.0.0.1, \"2001:db8::/32\"]\n",
		cfg.Database.URL, cfg.StateDirectory, cfg.MetricsListen, cfg.LuaListen, cfg.SASLListen, cfg.MailDirectory, cfg.MailUID, cfg.MailGID)
}

// startProcess runs the service as a process of its own, until stop or the
// test's end.
func startProcess(t *testing.T, bin, file string, cfg *Config) *service {
	t.Helper()
	s := &service{cfg: cfg, log: &logtest.Buffer{}}
	cmd := exec.Command(bin, "-config", file)
	cmd.Stderr = s.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.stop = sync.OnceFunc(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		defer time.AfterFunc(3*time.Minute, func() { cmd.Process.Kill() }).Stop()
		if err := cmd.Wait(); err != nil {
			t.Errorf("process ended: %v\n%s", err, s.log)
		}
	})
	t.Cleanup(s.stop)
	if status, body := s.get(t, "/healthz"); status != http.StatusOK {
		t.Errorf("healthz: %d %s", status, body)
	}
	return s
}

// get fetches a page of the service's metrics address.
func (s *service) get(t *testing.T, path string) (status int, body string) {
	t.Helper()
	wait.Until(t, "GET "+path, func() error {
		resp, err := http.Get("http://" + s.cfg.MetricsListen + path)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		status, body = resp.StatusCode, string(text)
		return err
	})
	return status, body
}

// line asks one question on the Lua socket.
func (s *service) line(t *testing.T, request string) string {
	t.Helper()
	c, err := net.Dial("unix", strings.TrimPrefix(s.cfg.LuaListen, "unix:"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(2 * time.Minute))
	fmt.Fprintf(c, "%s\n", request)
	reply, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		t.Fatalf("reply to %.30q: %v", request, err)
	}
	return strings.TrimSuffix(reply, "\n")
}
