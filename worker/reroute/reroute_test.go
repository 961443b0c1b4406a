package reroute

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"understudy/internal/delivery"
	"understudy/internal/delivery/postfixtest"
	"understudy/internal/directory"
	"understudy/internal/listen/listentest"
	"understudy/internal/pgtest"
	"understudy/internal/store"
	"understudy/internal/store/storetest"
	"understudy/internal/wait"
)

const (
	domain  = "example.test"
	nowhere = "127.0.0.1:1"
)

var cluster *pgtest.Cluster

func TestMain(m *testing.M) { pgtest.Main(m, &cluster) }

// gatewayMain makes a Postfix that asks a socketmap where mail goes, as the
// real one asks policyd, and that retries nothing by itself.
const gatewayMain = `
virtual_mailbox_domains =
relay_domains = example.test
relay_transport = smtp
transport_maps = socketmap:unix:@DIR@/socketmap:transport
smtpd_recipient_restrictions = permit_mynetworks, reject
minimal_backoff_time = 1h
maximal_backoff_time = 1h
queue_run_delay = 1h
`

func openStore(t *testing.T) *store.Store {
	t.Helper()
	s := storetest.Open(t, cluster)
	if _, err := s.Pool.Exec(t.Context(), `INSERT INTO domain (name, primaries, activation) VALUES ($1, '{127.0.0.1:25}', 'automatic')`, domain); err != nil {
		t.Fatal(err)
	}
	return s
}

// policyd answers GET /directory on a unix socket.
func policyd(t *testing.T, version func() int64) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /directory", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"version":%d,"loaded":true}`, version())
	})
	return listentest.Serve(t, mux)
}

// TestDeferredMailMoves: two gateways share a database, and each has messages
// deferred for a primary that is gone. Those of both are at the other
// destination within seconds of the change of mode.
func TestDeferredMailMoves(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	portal := postfixtest.Start(t, postfixtest.Options{})
	var nexthop atomic.Value // of example.test; at first nobody is there
	nexthop.Store("[127.0.0.1]:1")
	var version atomic.Int64
	const total = 25 // of each
	var all []*Rerouter
	for range 2 {
		gateway := postfixtest.Start(t, postfixtest.Options{Main: gatewayMain})
		socketmap(t, gateway.Dir+"/socketmap", func(key string) string {
			if key == nobody {
				return "discard:"
			}
			if strings.HasSuffix(strings.ToLower(key), "@"+domain) {
				return "smtp:" + nexthop.Load().(string)
			}
			return "smtp:[127.0.0.1]:1"
		})
		for n := range total {
			recipient := []string{"ana@example.test", "bruno@Example.test"}[n%2]
			r := (&delivery.Client{}).Deliver(t.Context(), []string{gateway.SMTP}, delivery.Message{Sender: "s@x.test", Recipients: []string{recipient, "x@other.test"},
				Body: strings.NewReader(fmt.Sprintf("Subject: %d\r\n\r\n", n))})
			if r[0].Err != nil || r[1].Err != nil {
				t.Fatal(r)
			}
		}
		all = append(all, New(Config{Directory: followed(t, s), Postqueue: []string{"postqueue", "-c", gateway.Dir}, Reentry: gateway.SMTP,
			Delivery: &delivery.Client{}, Control: policyd(t, version.Load), Log: slog.New(slog.DiscardHandler)}))
	}
	holds := func(w *Rerouter, n int) bool {
		c, err := w.queued(t.Context(), []string{domain})
		return err == nil && c[domain].deferred == n && c[domain].active == 0
	}
	for _, w := range all {
		await(t, func() bool { return holds(w, total) })
		run(t, w)
	}
	nexthop.Store("[127.0.0.1]" + portal.SMTP[strings.LastIndexByte(portal.SMTP, ':'):])
	began := time.Now()
	if _, err := s.SwitchMode(t.Context(), store.Switch{Domain: domain, To: directory.Emergency, Actor: "op", Manual: true}); err != nil {
		t.Fatal(err)
	}
	state, err := s.Mode(t.Context(), domain)
	if err != nil {
		t.Fatal(err)
	}
	version.Store(state.Version)
	portal.Await("ana@example.test", 26)
	portal.Await("bruno@example.test", 24)
	t.Logf("all moved %s after the change", time.Since(began).Round(time.Millisecond))
	for _, w := range all {
		await(t, func() bool { return holds(w, 0) })
		if c, err := w.queued(t.Context(), []string{"other.test"}); err != nil || c["other.test"].deferred != total {
			t.Errorf("another domain's deferred mail: %v, %v; want %d left alone", c["other.test"], err, total)
		}
	}
}

// followed is a directory that follows a database, loaded.
func followed(t *testing.T, s *store.Store) *directory.Directory {
	t.Helper()
	d := directory.New()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); wg.Wait() })
	wg.Go(func() {
		f := directory.Follower{Directory: d, Config: s.Pool.Config().ConnConfig, Log: slog.New(slog.DiscardHandler)}
		f.Run(ctx) //nolint:errcheck // only about its file, which it has not
	})
	await(t, d.Loaded)
	return d
}

// run runs a rerouter until the test ends.
func run(t *testing.T, w *Rerouter) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); wg.Wait() })
	wg.Go(func() { w.Run(ctx) })
}

// socketmap serves a table to Postfix (socketmap_table(5)): netstrings of
// "name key", answered by "OK value".
func socketmap(t *testing.T, path string, lookup func(key string) string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				r := bufio.NewReader(conn)
				for {
					var n int
					if _, err := fmt.Fscanf(r, "%d:", &n); err != nil || n > 1000 {
						return
					}
					request := make([]byte, n+1) // with the comma
					if _, err := io.ReadFull(r, request); err != nil {
						return
					}
					_, key, _ := strings.Cut(string(request[:n]), " ")
					reply := "OK " + lookup(key)
					fmt.Fprintf(conn, "%d:%s,", len(reply), reply)
				}
			}()
		}
	}()
}

func await(t *testing.T, done func() bool) {
	t.Helper()
	wait.True(t, "the condition", done)
}

// script writes a program that stands for postqueue and notes its arguments.
func script(t *testing.T, body string) (command []string, calls func() string) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "postqueue")
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho \"$*\" >>"+dir+"/calls\n"+body+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return []string{"/bin/sh", path}, func() string {
		text, _ := os.ReadFile(dir + "/calls")
		return string(text)
	}
}

// known is a directory with these domains.
func known(version int64, domains ...*directory.Domain) *directory.Change {
	return &directory.Change{Full: true, Version: version, Domains: domains}
}

// TestRounds: what follows a round.
func TestRounds(t *testing.T) {
	t.Parallel()
	const deferred, active = `{"queue_name":"deferred","recipients":[{"address":"a@example.test"}]}`, `{"queue_name":"active","recipients":[{"address":"a@example.test"}]}`
	const missed = `{"queue_name":"deferred","queue_id":"4Q","recipients":[{"address":"a@example.test"}]}{"queue_name":"deferred","queue_id":"5Q","recipients":[{"address":"a@other.test"}]}`
	tests := []struct {
		name   string
		round  int
		script string
		wait   time.Duration // 0: it was the last
		calls  string
	}{
		{"nothing queued", 0, "", 0, "-s example.test\n-j\n"},
		{"deferred, first", 0, "echo '" + deferred + "'", time.Second, "-s example.test\n-j\n"},
		{"missed by the flush", 0, "echo '" + missed + "'", time.Second, "-s example.test\n-j\n-i 4Q\n"},
		{"deferred, second", 1, "echo '" + deferred + "'", 2 * time.Second, "-s example.test\n-j\n"},
		{"active, early", 2, "echo '" + active + "'", 3 * time.Second, "-s example.test\n-j\n"},
		{"active, late", 6, "echo '" + active + "'", 0, "-s example.test\n-j\n"},
		{"deferred, last", 9, "echo '" + deferred + "'", 0, "-s example.test\n-j\n"},
		{"Postfix down", 0, "echo down >&2; exit 69", time.Second, "-s example.test\n"},
		{"Postfix down, last", 9, "echo down >&2; exit 69", failedPause, "-s example.test\n"},
		{"Postfix back after the last", 10, "", 0, "-s example.test\n-j\n"},
		{"odd answer", 0, "echo '{\"queue_name\":'", time.Second, "-s example.test\n-j\n"},
		{"odd answer, last", 9, "echo '{\"queue_name\":'", 0, "-s example.test\n-j\n"}, // it was flushed
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			command, calls := script(t, tt.script)
			w := New(Config{Postqueue: command, Reentry: nowhere, Delivery: &delivery.Client{}, Log: slog.New(slog.DiscardHandler)})
			wait, done := w.step(t.Context(), change{domain: domain, since: time.Now()}, tt.round)
			if done != (tt.wait == 0) || wait != tt.wait {
				t.Errorf("waits %s, done %v; want %s", wait, done, tt.wait)
			}
			if calls() != tt.calls {
				t.Errorf("calls %q, want %q", calls(), tt.calls)
			}
		})
	}
}

// TestWatch: which domains are re-routed as the directory changes, once for
// each change: a newer change and a removal end the rounds of the old one.
func TestWatch(t *testing.T) {
	t.Parallel()
	command, calls := script(t, "")
	var version atomic.Int64
	version.Store(100)
	d := directory.New()
	w := New(Config{Directory: d, Postqueue: command, Reentry: nowhere, Delivery: &delivery.Client{}, Control: policyd(t, version.Load), Log: slog.New(slog.DiscardHandler)})
	run(t, w)
	seen := func(name string, n int) {
		t.Helper()
		await(t, func() bool { return strings.Count(calls(), "-s "+name+"\n") == n })
	}
	now := time.Now()
	old := &directory.Domain{ID: 1, Name: "old.test", Mode: directory.Normal, ModeSince: now.Add(-2 * lookBack)}
	recent := &directory.Domain{ID: 2, Name: "recent.test", Mode: directory.Emergency, ModeSince: now.Add(-time.Minute)}
	d.Apply(known(1, old, recent))
	seen("recent.test", 1) // it came while this worker was down
	changed := *old
	changed.Mode, changed.ModeSince = directory.Emergency, now
	added := &directory.Domain{ID: 3, Name: "added.test", Mode: directory.Normal, ModeSince: now}
	d.Apply(known(2, &changed, recent, added))
	seen("old.test", 1)
	back := changed
	back.Mode, back.ModeSince = directory.Normal, now.Add(time.Second)
	d.Apply(known(3, &back, added))
	seen("old.test", 2)
	if c := calls(); strings.Contains(c, "added") || strings.Count(c, "recent") != 1 {
		t.Errorf("calls %q", c)
	}
}

// TestAwaitsPolicyd: no flush before policyd knows the change, but a policyd
// that does not answer is waited for no longer than two seconds.
func TestAwaitsPolicyd(t *testing.T) {
	t.Parallel()
	command, calls := script(t, "")
	var asked atomic.Int64
	version := func() int64 {
		if asked.Add(1) < 4 {
			return 9
		}
		if calls() != "" {
			t.Error("flushed before policyd knew")
		}
		return 10
	}
	w := New(Config{Postqueue: command, Reentry: nowhere, Delivery: &delivery.Client{}, Control: policyd(t, version), Log: slog.New(slog.DiscardHandler)})
	began := time.Now()
	c := change{domain: domain, version: 10}
	if w.follow(t.Context(), c); calls() == "" || asked.Load() < 4 && time.Since(began) < catchUp {
		t.Errorf("%q after %s, asked %d times", calls(), time.Since(began), asked.Load())
	}
	w.Control = "/nonexistent"
	began = time.Now()
	if w.follow(t.Context(), c); time.Since(began) < catchUp || time.Since(began) > catchUp+time.Minute {
		t.Errorf("after %s", time.Since(began))
	}
}

func TestArgumentIsADomain(t *testing.T) {
	t.Parallel()
	command, calls := script(t, "")
	w := New(Config{Postqueue: command, Reentry: nowhere, Delivery: &delivery.Client{}, Log: slog.New(slog.DiscardHandler)})
	for _, d := range []string{"", "-f", "-sexample.test", "a b", "Example.test", "a.test;b", "[127.0.0.1]", "a.test\n", "../x"} {
		w.follow(t.Context(), change{domain: d})
	}
	if calls() != "" {
		t.Errorf("called: %s", calls())
	}
}
