package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"understudy/admin/cli"
	"understudy/internal/archive"
	"understudy/internal/freeport"
	"understudy/internal/logtest"
	"understudy/internal/pgtest"
	"understudy/internal/store"
	"understudy/internal/wait"
)

// TestMain is also the program itself, so that tests can kill it, and the
// command line.
func TestMain(m *testing.M) {
	if os.Getenv("UNDERSTUDY_WORKER") == "1" {
		main()
	}
	if os.Getenv("UNDERSTUDY_ADMIN") == "1" {
		os.Exit(cli.Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// world is a directory with all that a worker needs, and a cluster.
type world struct {
	t       *testing.T
	dir     string
	cluster *pgtest.Cluster
	db      string
	metrics string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), metrics: freeport.For(t)}
	var err error
	if w.cluster, err = pgtest.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.cluster.Remove() })
	w.db = w.cluster.Database(t)
	for _, d := range []string{"state", "archive"} {
		if err := os.Mkdir(filepath.Join(w.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(w.dir, "secret"), []byte("x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.write("worker.yml", w.config())
	return w
}

func (w *world) config() string {
	return strings.NewReplacer("DIR", w.dir, "URL", w.cluster.URL("understudy_app", w.db), "METRICS", w.metrics).Replace(`
database: {url: "URL"}
state_directory: DIR/state
metrics_listen: METRICS
archive_directory: DIR/archive
policyd_control: DIR/control
postqueue: [/bin/sh, -c, 'echo "$@" >>DIR/calls', postqueue]
helo_name: gw.test
reentry_address: 127.0.0.1:1
index_interval: 20ms
portal: {doveadm_url: "http://127.0.0.1:1", doveadm_api_key_file: DIR/secret, imap_address: "127.0.0.1:1", master_user: drain, master_password_file: DIR/secret}
`)
}

func (w *world) write(name, text string) string {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// program runs the worker as a process of its own.
func (w *world) program(args ...string) (*exec.Cmd, *logtest.Buffer) {
	w.t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "UNDERSTUDY_WORKER=1")
	out := &logtest.Buffer{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() }) //nolint:errcheck // ended already, most often
	return cmd, out
}

func (w *world) migrate() {
	w.t.Helper()
	cfg, err := pgxpool.ParseConfig(w.cluster.URL("understudy", w.db))
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := store.Migrate(w.t.Context(), cfg); err != nil {
		w.t.Fatal(err)
	}
}

// healthz asks the worker.
func (w *world) healthz() string {
	c := http.Client{Timeout: time.Minute}
	resp, err := c.Get("http://" + w.metrics + "/healthz")
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body) //nolint:errcheck // compared as it is
	return fmt.Sprintf("%d %s", resp.StatusCode, text)
}

func (w *world) says(part string) {
	w.t.Helper()
	last := ""
	defer func() {
		if w.t.Failed() {
			w.t.Logf("last answer: %s", last)
		}
	}()
	wait.True(w.t, "/healthz: "+part, func() bool { last = w.healthz(); return strings.Contains(last, part) })
}

// TestWaits: without a server, without a schema, with both, without a server
// again: the worker says what it waits for, and goes on by itself.
func TestWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := w.cluster.StopServer(); err != nil {
		t.Fatal(err)
	}
	cmd, out := w.program("-config", w.dir+"/worker.yml")
	w.says("503 waiting for PostgreSQL")
	if err := w.cluster.StartServer(); err != nil {
		t.Fatal(err)
	}
	w.says("understudy-admin migrate")
	w.migrate()
	w.says("200 ok")
	if err := w.cluster.StopServer(); err != nil {
		t.Fatal(err)
	}
	w.says("503 waiting for PostgreSQL")
	if err := w.cluster.StartServer(); err != nil {
		t.Fatal(err)
	}
	w.says("200 ok")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v: %s", err, out)
	}
	if strings.Contains(out.String(), "postgres://") {
		t.Errorf("the log holds a connection string: %s", out)
	}
}

// TestKilledWhileIndexing: kill -9 again and again; every archived message is
// in the index once.
func TestKilledWhileIndexing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.migrate()
	writer, err := archive.OpenWriter(w.dir+"/archive", archive.Options{MaxBytes: 200_000})
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	total := 0
	add := func(n int) {
		for range n {
			s := archive.NewSpool(w.dir, 1<<20)
			fmt.Fprintf(s, "Subject: %d\r\n\r\n%s\r\n", total, strings.Repeat("some words ", 200))
			_, err := writer.Append(t.Context(), &archive.Envelope{ID: uuid.Must(uuid.NewV7()), Received: time.Now().UTC(), Direction: archive.Inbound,
				Recipients: []string{"ana@example.test"}, Mailboxes: []string{"ana@example.test"}}, s)
			s.Close()
			if err != nil {
				t.Fatal(err)
			}
			total++
		}
	}
	cfg, err := pgxpool.ParseConfig(w.cluster.URL("understudy_app", w.db))
	if err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	count := func(sql string) (n int) {
		if err := pool.QueryRow(t.Context(), sql).Scan(&n); err != nil {
			t.Error(err)
		}
		return n
	}
	for range 4 {
		before := count("SELECT count(*) FROM message")
		add(500)
		cmd, _ := w.program("-config", w.dir+"/worker.yml")
		wait.True(t, "indexing has begun", func() bool { return count("SELECT count(*) FROM message") > before })
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		cmd.Wait() //nolint:errcheck // killed
	}
	_, out := w.program("-config", w.dir+"/worker.yml")
	defer func() {
		if t.Failed() {
			t.Logf("%d of %d indexed; the worker says %s", count("SELECT count(*) FROM message"), total, out)
		}
	}()
	wait.True(t, "all indexed", func() bool { return count("SELECT count(*) FROM message") == total })
	if n := count("SELECT sum(records) FROM segment"); n != total {
		t.Errorf("%d records counted, want %d", n, total)
	}
	if n := count("SELECT count(*) FROM message_mailbox"); n != total {
		t.Errorf("%d rows of mailboxes, want %d", n, total)
	}
}

// TestSecondWorkerWaits: with the same state directory; it takes over when
// the first is killed.
func TestSecondWorkerWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.migrate()
	first, _ := w.program("-config", w.dir+"/worker.yml")
	w.says("200 ok")
	old := w.metrics
	w.metrics = freeport.For(t)
	w.program("-config", w.write("second.yml", w.config()))
	w.says("503 another worker uses")
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	first.Wait() //nolint:errcheck // killed
	w.says("200 ok")
	if old == w.metrics {
		t.Error("the same port twice")
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good := w.config()
	for _, c := range []struct {
		name, config string
		args         []string
		code         int
		says         string
	}{
		{"good", good, []string{"-check"}, 0, ""},
		{"unknown flag", good, []string{"-no-such-flag"}, 2, "no-such-flag"},
		{"argument", good, []string{"-check", "extra"}, 2, "extra"},
		{"unknown key", good + "\nno_such_key: 1\n", []string{"-check"}, 1, "no_such_key"},
		{"wrong type", good + "\ndetector: {failures: many}\n", []string{"-check"}, 1, "failures"},
		{"nonsense", strings.Replace(good, "index_interval: 20ms", "index_interval: 0s", 1), []string{"-check"}, 1, "index_interval"},
		{"missing", strings.Replace(good, "helo_name: gw.test", "", 1), []string{"-check"}, 1, "helo_name: is missing"},
		{"fast is slow", good + "\nprobe: {interval: 1s, fast_interval: 2s}\n", []string{"-check"}, 1, "fast_interval"},
		{"missing secret", strings.Replace(good, "doveadm_api_key_file: "+w.dir+"/secret", "doveadm_api_key_file: /nowhere", 1), nil, 1, "/nowhere"},
		{"port in use", strings.Replace(good, w.metrics, busy(t), 1), nil, 1, "listen for metrics"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd, out := w.program(append([]string{"-config", w.write(strings.ReplaceAll(c.name, " ", "-")+".yml", c.config)}, c.args...)...)
			cmd.Wait() //nolint:errcheck // the exit code is looked at
			if code := cmd.ProcessState.ExitCode(); code != c.code || !strings.Contains(out.String(), c.says) || c.says == "" && out.String() != "" {
				t.Errorf("exit %d, says %q; want %d, %q", code, out, c.code, c.says)
			}
		})
	}
}

// busy returns an address where somebody listens.
func busy(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}
