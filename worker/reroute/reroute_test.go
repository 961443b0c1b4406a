package reroute

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"

	"understudy/internal/delivery"
	"understudy/internal/delivery/postfixtest"
	"understudy/internal/directory"
	"understudy/internal/job"
	"understudy/internal/pgtest"
	"understudy/internal/store"
	"understudy/internal/store/storetest"
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
func policyd(t *testing.T, version *atomic.Int64) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "reroute-") // short: a socket's path is
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "control"))
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /directory", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"version":%d,"loaded":true}`, version.Load())
	})
	srv := &http.Server{Handler: mux}
	go srv.Serve(l) //nolint:errcheck // closed below
	t.Cleanup(func() { srv.Close() })
	return l.Addr().String()
}

// TestDeferredMailMoves: 25 messages deferred for a primary that is gone are
// at the other destination within seconds of the change of mode.
func TestDeferredMailMoves(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	portal := postfixtest.Start(t, postfixtest.Options{})
	gateway := postfixtest.Start(t, postfixtest.Options{Main: gatewayMain})
	var nexthop atomic.Value // of example.test; at first nobody is there
	nexthop.Store("[127.0.0.1]:1")
	socketmap(t, gateway.Dir+"/socketmap", func(key string) string {
		if key == nobody {
			return "discard:"
		}
		if strings.HasSuffix(strings.ToLower(key), "@"+domain) {
			return "smtp:" + nexthop.Load().(string)
		}
		return "smtp:[127.0.0.1]:1"
	})
	const total = 25
	for n := range total {
		recipient := []string{"ana@example.test", "bruno@Example.test"}[n%2]
		r := (&delivery.Client{}).Deliver(t.Context(), []string{gateway.SMTP}, delivery.Message{Sender: "s@x.test", Recipients: []string{recipient, "x@other.test"},
			Body: strings.NewReader(fmt.Sprintf("Subject: %d\r\n\r\n", n))})
		if r[0].Err != nil || r[1].Err != nil {
			t.Fatal(r)
		}
	}
	var version atomic.Int64
	w := New(Config{Changes: s, Postqueue: []string{"postqueue", "-c", gateway.Dir}, Reentry: gateway.SMTP, Delivery: &delivery.Client{}, Control: policyd(t, &version), Log: slog.New(slog.DiscardHandler)})
	await(t, func() bool {
		c, err := w.queued(t.Context(), domain)
		return err == nil && c.deferred == total && c.active == 0
	})
	client := runJobs(t, s, w)
	nexthop.Store("[127.0.0.1]" + portal.SMTP[strings.LastIndexByte(portal.SMTP, ':'):])
	began := time.Now()
	change, err := s.SwitchMode(t.Context(), store.Switch{Domain: domain, To: directory.Emergency, Actor: "op", Manual: true})
	if err != nil {
		t.Fatal(err)
	}
	state, err := s.Mode(t.Context(), domain)
	if err != nil {
		t.Fatal(err)
	}
	version.Store(state.Version)
	portal.Await("ana@example.test", 13)
	portal.Await("bruno@example.test", 12)
	t.Logf("all moved %s after the change", time.Since(began).Round(time.Millisecond))
	await(t, func() bool {
		c, err := w.queued(t.Context(), domain)
		return err == nil && c.deferred == 0
	})
	if c, err := w.queued(t.Context(), "other.test"); err != nil || c.deferred != total {
		t.Errorf("another domain's deferred mail: %d, %v; want %d left alone", c.deferred, err, total)
	}
	await(t, func() bool {
		list, err := client.JobList(t.Context(), river.NewJobListParams().Kinds("reroute").States(rivertype.JobStateCompleted))
		return err == nil && len(list.Jobs) == 1
	})
	if change.To != directory.Emergency {
		t.Errorf("%+v", change)
	}
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

func runJobs(t *testing.T, s *store.Store, w *Worker) *river.Client[pgx.Tx] {
	t.Helper()
	workers := river.NewWorkers()
	river.AddWorker(workers, w)
	client, err := river.NewClient(riverpgxv5.New(s.Pool), &river.Config{Workers: workers, Logger: slog.New(slog.DiscardHandler),
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 2}}, FetchPollInterval: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := client.StopAndCancel(ctx); err != nil {
			t.Error(err)
		}
	})
	return client
}

func await(t *testing.T, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		if time.Now().After(deadline) {
			t.Fatal("condition not met in time")
		}
		<-tick.C
	}
}

// changes answers for the database.
type changes struct {
	state store.ModeState
	err   error
}

func (c changes) Mode(context.Context, string) (store.ModeState, error) { return c.state, c.err }

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

func rerouteJob(change int64, snoozes int) *river.Job[job.Reroute] {
	return &river.Job[job.Reroute]{JobRow: &rivertype.JobRow{Attempt: 1, Metadata: fmt.Appendf(nil, `{"snoozes":%d}`, snoozes)},
		Args: job.Reroute{Domain: domain, Change: change, At: time.Now()}}
}

// TestRounds: what follows a round.
func TestRounds(t *testing.T) {
	t.Parallel()
	const deferred, active = `{"queue_name":"deferred","recipients":[{"address":"a@example.test"}]}`, `{"queue_name":"active","recipients":[{"address":"a@example.test"}]}`
	const missed = `{"queue_name":"deferred","queue_id":"4Q","recipients":[{"address":"a@example.test"}]}{"queue_name":"deferred","queue_id":"5Q","recipients":[{"address":"a@other.test"}]}`
	var version atomic.Int64
	version.Store(100)
	control := policyd(t, &version)
	tests := []struct {
		name    string
		state   changes
		snoozes int
		script  string
		snooze  time.Duration // 0: the job ends
		err     bool
		calls   string
	}{
		{"nothing queued", changes{store.ModeState{Change: 7}, nil}, 0, "", 0, false, "-s example.test\n-j\n"},
		{"deferred, first", changes{store.ModeState{Change: 7}, nil}, 0, "echo '" + deferred + "'", time.Second, false, "-s example.test\n-j\n"},
		{"missed by the flush", changes{store.ModeState{Change: 7}, nil}, 0, "echo '" + missed + "'", time.Second, false, "-s example.test\n-j\n-i 4Q\n"},
		{"deferred, second", changes{store.ModeState{Change: 7}, nil}, 1, "echo '" + deferred + "'", 2 * time.Second, false, "-s example.test\n-j\n"},
		{"active, early", changes{store.ModeState{Change: 7}, nil}, 2, "echo '" + active + "'", 3 * time.Second, false, "-s example.test\n-j\n"},
		{"active, late", changes{store.ModeState{Change: 7}, nil}, 6, "echo '" + active + "'", 0, false, "-s example.test\n-j\n"},
		{"deferred, last", changes{store.ModeState{Change: 7}, nil}, 9, "echo '" + deferred + "'", 0, false, "-s example.test\n-j\n"},
		{"Postfix down", changes{store.ModeState{Change: 7}, nil}, 0, "echo down >&2; exit 69", time.Second, false, "-s example.test\n"},
		{"Postfix down, last", changes{store.ModeState{Change: 7}, nil}, 9, "echo down >&2; exit 69", 0, true, "-s example.test\n"},
		{"odd answer, last", changes{store.ModeState{Change: 7}, nil}, 9, "echo '{\"queue_name\":'", 0, true, "-s example.test\n-j\n"},
		{"newer change", changes{store.ModeState{Change: 8}, nil}, 0, "", 0, false, ""},
		{"domain gone", changes{err: store.ErrNotFound}, 0, "", 0, false, ""},
		{"database down", changes{err: errors.New("down")}, 0, "", 0, true, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			command, calls := script(t, tt.script)
			w := New(Config{Changes: tt.state, Postqueue: command, Reentry: nowhere, Delivery: &delivery.Client{}, Control: control, Log: slog.New(slog.DiscardHandler)})
			err := w.Work(t.Context(), rerouteJob(7, tt.snoozes))
			var snooze *river.JobSnoozeError
			if errors.As(err, &snooze) {
				if snooze.Duration != tt.snooze {
					t.Errorf("sleeps %s, want %s", snooze.Duration, tt.snooze)
				}
			} else if tt.snooze != 0 || (err != nil) != tt.err {
				t.Errorf("got %v", err)
			}
			if calls() != tt.calls {
				t.Errorf("calls %q, want %q", calls(), tt.calls)
			}
		})
	}
}

// TestAwaitsPolicyd: no flush before policyd knows the change, but a policyd
// that does not answer is waited for no longer than two seconds.
func TestAwaitsPolicyd(t *testing.T) {
	t.Parallel()
	command, calls := script(t, "")
	var version atomic.Int64
	version.Store(9)
	w := New(Config{Changes: changes{store.ModeState{Change: 7, Version: 10}, nil}, Postqueue: command, Reentry: nowhere, Delivery: &delivery.Client{}, Control: policyd(t, &version), Log: slog.New(slog.DiscardHandler)})
	began := time.Now()
	time.AfterFunc(300*time.Millisecond, func() {
		if calls() != "" {
			t.Error("flushed before policyd knew")
		}
		version.Store(10)
	})
	if err := w.Work(t.Context(), rerouteJob(7, 0)); err != nil || calls() == "" || time.Since(began) < 300*time.Millisecond {
		t.Errorf("%v after %s", err, time.Since(began))
	}
	w.Control = "/nonexistent"
	began = time.Now()
	if err := w.Work(t.Context(), rerouteJob(7, 0)); err != nil || time.Since(began) < catchUp || time.Since(began) > 3*catchUp {
		t.Errorf("%v after %s", err, time.Since(began))
	}
}

func TestArgumentIsADomain(t *testing.T) {
	t.Parallel()
	command, calls := script(t, "")
	w := New(Config{Changes: changes{}, Postqueue: command, Reentry: nowhere, Delivery: &delivery.Client{}, Log: slog.New(slog.DiscardHandler)})
	for _, d := range []string{"", "-f", "-sexample.test", "a b", "Example.test", "a.test;b", "[127.0.0.1]", "a.test\n", "../x"} {
		j := rerouteJob(7, 0)
		j.Args.Domain = d
		var cancel *river.JobCancelError
		if err := w.Work(t.Context(), j); !errors.As(err, &cancel) {
			t.Errorf("%q: %v", d, err)
		}
	}
	if calls() != "" {
		t.Errorf("called: %s", calls())
	}
}

func TestCountQueue(t *testing.T) {
	t.Parallel()
	const one = `{"queue_name": "deferred", "queue_id": "4Q", "arrival_time": 1, "message_size": 2, "forced_expire": false, "sender": "s@example.test", ` +
		`"recipients": [{"address": "a@Example.Test", "delay_reason": "x {\"[ y"}, {"address": "b@other.test"}, {"address": "\"q@x\"@example.test"}, {"address": "local"}]}` + "\n"
	tests := []struct {
		name, in         string
		deferred, active int
		err              bool
	}{
		{"empty", "", 0, 0, false},
		{"two messages", one + one, 4, 0, false},
		{"active", strings.Replace(one, "deferred", "active", 1) + one, 2, 2, false},
		{"on hold", strings.Replace(one, "deferred", "hold", 1), 0, 0, false},
		{"unknown keys", `{"new": {"a": [1, {"b": null}]}, "queue_name": "deferred", "recipients": [{"x": [[]], "address": "a@example.test"}]}`, 1, 0, false},
		{"cut", one[:100], 0, 0, true},
		{"cut after a message", one + one[:len(one)-3], 0, 0, true},
		{"no object", `["x"]`, 0, 0, true},
		{"no JSON", "postqueue: warning: Mail system is down", 0, 0, true},
		{"odd recipients", `{"recipients": "x"}`, 0, 0, true},
	}
	for _, tt := range tests {
		c, err := countQueue(strings.NewReader(tt.in), domain)
		if c.deferred != tt.deferred || c.active != tt.active || (err != nil) != tt.err {
			t.Errorf("%s: %+v, %v", tt.name, c, err)
		}
	}
}

// TestCountQueueMemory: a message with 40,000 recipients, 10 MB of text. Not
// parallel: it looks at the memory of the process.
func TestCountQueueMemory(t *testing.T) {
	const n = 40_000
	r, w := io.Pipe()
	var before, most runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	go func() {
		fmt.Fprint(w, `{"queue_name": "deferred", "recipients": [{"address": "first@example.test"}`)
		line := []byte(strings.Repeat(`, {"address": "a@example.test", "delay_reason": "`+strings.Repeat("x", 200)+`"}`, n/10))
		for range 10 {
			w.Write(line) //nolint:errcheck // the reader shows it
			var now runtime.MemStats
			runtime.GC()
			if runtime.ReadMemStats(&now); now.HeapAlloc > most.HeapAlloc {
				most = now
			}
		}
		fmt.Fprint(w, "]}\n")
		w.Close()
	}()
	c, err := countQueue(r, domain)
	if err != nil || c.deferred != n+1 {
		t.Errorf("%d, %v", c.deferred, err)
	}
	if most.HeapAlloc > before.HeapAlloc+5<<20 { // a tenth of the text is the test's own
		t.Errorf("heap grew from %d to %d bytes", before.HeapAlloc, most.HeapAlloc)
	}
}

func FuzzCountQueue(f *testing.F) {
	f.Add([]byte(`{"queue_name": "deferred", "recipients": [{"address": "a@example.test", "delay_reason": "x"}]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		c, err := countQueue(strings.NewReader(string(in)), domain)
		if c.deferred < 0 || c.active < 0 || len(c.ids) > maxMissed || err != nil && c.deferred+c.active+len(c.ids) != 0 {
			t.Errorf("%+v, %v", c, err)
		}
		if slices.ContainsFunc(c.ids, func(id string) bool { return strings.HasPrefix(id, "-") || strings.ContainsAny(id, " ./\x00") }) {
			t.Errorf("unsafe ids %q", c.ids)
		}
	})
}
