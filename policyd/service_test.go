package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy/internal/config"
	"understudy/internal/directory"
	"understudy/internal/directory/directorytest"
	"understudy/internal/evidence"
	"understudy/internal/freeport"
	"understudy/internal/wait"
	"understudy/policyd/policytest"
)

// deadDatabase is a URL at which nothing answers.
const deadDatabase = "postgres://understudy_mail@127.0.0.1:1/none"

// newConfig returns a configuration with sockets in a new short directory
// and no PostgreSQL.
func newConfig(t *testing.T) *Config {
	t.Helper()
	dir, err := os.MkdirTemp("", "policyd-") // unix socket paths are short: not t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := defaults()
	c.Common = config.Common{Database: config.Database{URL: deadDatabase}, StateDirectory: dir, MetricsListen: freeport.For(t)}
	c.PolicyListen, c.SocketmapListen, c.ControlListen = "unix:"+dir+"/policy", "unix:"+dir+"/socketmap", "unix:"+dir+"/control"
	return c
}

// saveDirectory leaves a directory as an earlier policyd would have.
func saveDirectory(t *testing.T, c *Config, domains ...policytest.Domain) {
	t.Helper()
	directorytest.Save(t, filepath.Join(c.StateDirectory, "directory.json"), policytest.Change(1, domains...))
}

// startService runs a policyd in this process; stop ends it and waits.
func startService(t *testing.T, c *Config) (s *service, stop func()) {
	t.Helper()
	s, err := start(c, policytest.Quiet)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.serve(ctx) }()
	ended := false
	stop = func() {
		cancel()
		if ended {
			return
		}
		ended = true
		if err := <-done; err != nil {
			t.Errorf("policyd ended: %v", err)
		}
	}
	t.Cleanup(stop)
	return s, stop
}

func dial(t *testing.T, where string) *policytest.Client {
	t.Helper()
	c, err := policytest.Dial(where)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func ask(t *testing.T, c *policytest.Client, r *policytest.Request, want string) {
	t.Helper()
	if got, err := c.Ask(r); err != nil || !strings.HasPrefix(got, want) {
		t.Fatalf("got action %q, %v; want %q", got, err, want)
	}
}

func lookup(t *testing.T, c *policytest.Client, name, key, want string) {
	t.Helper()
	if got, err := c.Lookup(name, key); err != nil || !strings.HasPrefix(got, want) {
		t.Fatalf("%s %q: got reply %q, %v; want %q", name, key, got, err, want)
	}
}

// eventually polls until check returns nil.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	wait.Until(t, "the condition", check)
}

// get reads a page over TCP, or over a unix socket if there is one.
func get(socket, url string) (int, string, error) {
	transport := &http.Transport{DisableKeepAlives: true}
	if socket != "" {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", strings.TrimPrefix(socket, "unix:"))
		}
	}
	resp, err := (&http.Client{Transport: transport, Timeout: time.Minute}).Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// healthIs waits until /healthz says so.
func healthIs(t *testing.T, c *Config, status int) {
	t.Helper()
	eventually(t, func() error {
		got, body, err := get("", "http://"+c.MetricsListen+"/healthz")
		if err != nil || got != status {
			return fmt.Errorf("health %d %q, %w; want %d", got, body, err, status)
		}
		return nil
	})
}

func TestAnswersFromTheSavedDirectory(t *testing.T) {
	t.Parallel()
	c := newConfig(t)
	saveDirectory(t, c, policytest.Example())
	startService(t, c)
	policy, maps := dial(t, c.PolicyListen), dial(t, c.SocketmapListen)
	for range 3 { // connections are used again
		ask(t, policy, policytest.NewRequest(), "reject_unverified_recipient")
		ask(t, policy, policytest.NewRequest().Recipient("x@elsewhere.test"), "DUNNO")
		lookup(t, maps, "transport", "Ana+x@Example.test", "OK relay-auto:[192.0.2.1]:25,[192.0.2.2]:2525")
		lookup(t, maps, "relay_domains", "elsewhere.test", "NOTFOUND ")
	}
	healthIs(t, c, http.StatusOK)
	for _, want := range []string{
		`understudy_policyd_requests_total{answer="ask-primary",protocol="policy",question="recipient"} 3`,
		`understudy_policyd_requests_total{answer="primary-auto",protocol="socketmap",question="transport"} 3`,
		`understudy_policyd_request_seconds_count{protocol="policy"} 6`,
		`understudy_policyd_open_connections{protocol="socketmap"} 1`,
		`understudy_directory_connected 0`,
	} {
		metricsSay(t, c, want)
	}
}

// metricsSay waits for a line of the metrics: an answer is counted just after
// it was written.
func metricsSay(t *testing.T, c *Config, want string) {
	t.Helper()
	eventually(t, func() error {
		_, text, err := get("", "http://"+c.MetricsListen+"/metrics")
		if err != nil || !strings.Contains(text, want) {
			return fmt.Errorf("metrics lack %s (%w)", want, err)
		}
		return nil
	})
}

// TestConnectionsWaitForTheDirectory: while a large one is being loaded,
// Postfix is not refused (it would answer 451 by itself) but waits.
func TestConnectionsWaitForTheDirectory(t *testing.T) {
	t.Parallel()
	c := newConfig(t)
	file := filepath.Join(c.StateDirectory, "directory.json")
	directorytest.Save(t, file, policytest.Change(1, policytest.Example()))
	var client *policytest.Client
	given := directorytest.Slow(t, file, func() (err error) {
		client, err = policytest.Dial(c.PolicyListen)
		return err
	})
	startService(t, c)
	<-given
	if client == nil {
		t.Fatal("nobody could connect while the directory was being loaded")
	}
	defer client.Close()
	ask(t, client, policytest.NewRequest(), "reject_unverified_recipient")
}

func TestDamagedDirectoryFileIsIgnored(t *testing.T) {
	t.Parallel()
	c := newConfig(t)
	if err := os.WriteFile(filepath.Join(c.StateDirectory, "directory.json"), []byte(`{"format":1,"domains":[{`), 0o600); err != nil {
		t.Fatal(err)
	}
	startService(t, c)
	ask(t, dial(t, c.PolicyListen), policytest.NewRequest(), "451 4.3.5 ")
	healthIs(t, c, http.StatusServiceUnavailable)
}

func TestMalformedRequestsEndOnlyTheirConnection(t *testing.T) {
	t.Parallel()
	c := newConfig(t)
	saveDirectory(t, c, policytest.Example())
	startService(t, c)
	policy, maps := dial(t, c.PolicyListen), dial(t, c.SocketmapListen)
	for where, junk := range map[string]string{c.PolicyListen: "GET / HTTP/1.1\n\n", c.SocketmapListen: "99999:"} {
		bad := dial(t, where)
		if _, err := io.WriteString(bad, junk); err != nil {
			t.Fatal(err)
		}
		if n, err := bad.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("%s: an answer to %q", where, junk)
		}
	}
	ask(t, policy, policytest.NewRequest(), "reject_unverified_recipient")
	lookup(t, maps, "probe", "ana@example.test", "OK probe-auto:")
	metricsSay(t, c, `understudy_policyd_malformed_total{protocol="policy"} 1`)
	metricsSay(t, c, `understudy_policyd_malformed_total{protocol="socketmap"} 1`)
}

func TestReentryIsEvidence(t *testing.T) {
	t.Parallel()
	c := newConfig(t)
	saveDirectory(t, c, policytest.Example())
	s, stop := startService(t, c)
	policy := dial(t, c.PolicyListen)
	dora := policytest.NewRequest().Recipient("dora@example.test")
	ask(t, policy, policytest.NewRequest().Recipient("dora@example.test"), "reject_unverified_recipient")

	ask(t, policy, policytest.NewRequest().Context("reentry"), "DUNNO")
	ask(t, policy, policytest.NewRequest().Context("reentry").Recipient("dora@example.test"), "450 4.2.0 ")
	worker := evidence.NewClient(strings.TrimPrefix(c.ControlListen, "unix:"))
	events, err := worker.Poll(t.Context())
	if err != nil || len(events) != 2 {
		t.Fatalf("evidence %+v, %v", events, err)
	}
	for i, want := range []evidence.Event{
		{Domain: "example.test", Class: evidence.Fallback, Recipient: "ana@example.test"},
		{Domain: "example.test", Class: evidence.FallbackRefused, Recipient: "dora@example.test"},
	} {
		got := events[i]
		if time.Since(got.At) > time.Minute || got.Seq != uint64(i+1) {
			t.Errorf("event %d: %+v", i, got)
		}
		got.At, got.Seq = time.Time{}, 0
		if got != want {
			t.Errorf("event %d: got %+v, want %+v", i, got, want)
		}
	}

	// What was seen counts at once, until the worker's judgement arrives.
	ask(t, policy, dora, "450 4.4.1 ")
	ask(t, policy, policytest.NewRequest(), "DUNNO")
	policytest.Load(s.dir, policytest.Example().With(func(d *policytest.Domain) { d.Version = 2 }))
	ask(t, policy, dora, "reject_unverified_recipient")
	policytest.Load(s.dir, policytest.Example().With(func(d *policytest.Domain) { d.PrimaryFailing = true }))
	ask(t, policy, dora, "450 4.4.1 ")

	// A worker that waits for news does not hold up the end.
	polled := make(chan error, 1)
	go func() {
		_, err := worker.Poll(context.Background())
		polled <- err
	}()
	begun := time.Now()
	stop()
	if took := time.Since(begun); took > 5*time.Second { // a poll waits twice as long for news
		t.Errorf("the end took %v", took)
	}
	<-polled
}

func TestControlTellsTheDirectory(t *testing.T) {
	t.Parallel()
	c := newConfig(t)
	s, _ := startService(t, c)
	state := func() (d directoryState) {
		status, body, err := get(c.ControlListen, "http://policyd/directory")
		if err != nil || status != http.StatusOK || json.Unmarshal([]byte(body), &d) != nil {
			t.Fatalf("got %d %q, %v", status, body, err)
		}
		return d
	}
	if got := state(); got != (directoryState{}) {
		t.Errorf("before anything is loaded: %+v", got)
	}
	s.dir.Apply(&directory.Change{Full: true, Version: 42})
	if got := state(); got != (directoryState{Version: 42, Loaded: true}) {
		t.Errorf("after a change: %+v", got)
	}
}

func TestStartRefusesATakenSocket(t *testing.T) {
	t.Parallel()
	c := newConfig(t)
	startService(t, c)
	if err := run(t.Context(), c, policytest.Quiet); err == nil || !strings.Contains(err.Error(), "another process answers") {
		t.Errorf("got %v", err)
	}
}
