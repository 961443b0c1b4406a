package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"understudy/internal/archive"
	"understudy/internal/archive/shiptest"
	"understudy/internal/freeport"
	"understudy/internal/logtest"
)

// gateway is one machine with its archive, worker and command line.
type gateway struct {
	*world
	name    string
	bucket  *shiptest.Store
	sent    map[uuid.UUID]string // messages archived here
	process *exec.Cmd
	output  *logtest.Buffer
}

// gateways makes machines that share a database and a bucket.
func gateways(t *testing.T, s *shiptest.Store, names ...string) []*gateway {
	t.Helper()
	var all []*gateway
	for i, name := range names {
		g := &gateway{name: name, bucket: s, sent: map[uuid.UUID]string{}}
		if i == 0 {
			g.world = newWorld(t)
			g.migrate()
		} else {
			w := *all[0].world
			w.dir, w.metrics = t.TempDir(), freeport.For(t)
			for _, d := range []string{"state", "archive"} {
				if err := os.Mkdir(filepath.Join(w.dir, d), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			w.write("secret", "x\n")
			g.world = &w
		}
		all = append(all, g)
	}
	return all
}

// start starts the worker, which ships segments after a time.
func (g *gateway) start(after time.Duration) {
	g.t.Helper()
	bucket := fmt.Sprintf("archive_bucket: {url: %q, credentials_file: %q", g.bucket.Config.URL, g.bucket.Config.CredentialsFile)
	g.write("worker.yml", fmt.Sprintf("%sgateway: %s\n%s, ship_after: %s, keep_local: %s}\n", g.config(), g.name, bucket, after, after))
	g.write("admin.yml", fmt.Sprintf("database: {url: %q}\nstate_directory: %s\nmetrics_listen: 127.0.0.1:0\nlisten: 127.0.0.1:0\n"+
		"public_url: http://127.0.0.1\narchive_directory: %s/archive\ngateway: %s\n%s}\n", g.cluster.URL("understudy_app", g.db), g.dir, g.dir, g.name, bucket))
	g.process, g.output = g.program("-config", g.dir+"/worker.yml")
	g.says("200 ok")
	g.t.Cleanup(func() {
		if g.t.Failed() {
			g.t.Logf("worker of %s: %s", g.name, g.output)
		}
	})
}

// stop kills the worker.
func (g *gateway) stop() {
	g.process.Process.Kill() //nolint:errcheck // it lives
	g.process.Wait()         //nolint:errcheck // killed
}

// add archives messages for ana in sealed segments of their own.
func (g *gateway) add(segments, messages int) {
	g.t.Helper()
	for range segments {
		w, err := archive.OpenWriter(g.dir+"/archive", archive.Options{})
		if err != nil {
			g.t.Fatal(err)
		}
		for range messages {
			s, id := archive.NewSpool(g.dir, 1<<20), uuid.Must(uuid.NewV7())
			body := fmt.Sprintf("From: bruno@other.test\r\nTo: ana@example.test\r\nSubject: number %d of %s\r\n\r\n%s\r\n", len(g.sent), g.name, strings.Repeat("shipped words ", 100))
			s.Write([]byte(body)) //nolint:errcheck // sticky: Append tells
			_, err := w.Append(g.t.Context(), &archive.Envelope{ID: id, Received: time.Now().UTC().Truncate(time.Microsecond), Direction: archive.Inbound,
				Sender: "bruno@other.test", Recipients: []string{"ana@example.test"}, Mailboxes: []string{"ana@example.test"}}, s)
			s.Close()
			if err != nil {
				g.t.Fatal(err)
			}
			g.sent[id] = body
		}
		if err := w.Close(); err != nil { // seals it
			g.t.Fatal(err)
		}
	}
}

// admin runs the command line on this machine.
func (g *gateway) admin(args ...string) string {
	g.t.Helper()
	cmd := exec.Command(os.Args[0], append([]string{"-config", g.dir + "/admin.yml"}, args...)...)
	cmd.Env = append(os.Environ(), "UNDERSTUDY_ADMIN=1")
	var out, says bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &says
	if err := cmd.Run(); err != nil {
		g.t.Fatalf("understudy-admin %v on %s: %v\n%s%s", args, g.name, err, &out, &says)
	}
	return out.String()
}

// answer is admin with --json.
func (g *gateway) answer(into any, args ...string) {
	g.t.Helper()
	if err := json.Unmarshal([]byte(g.admin(append(args, "--json")...)), into); err != nil {
		g.t.Fatalf("understudy-admin %v: %v", args, err)
	}
}

// rows is the whole index as text, and how many messages it has.
func (g *gateway) rows() (text string, n int) {
	g.t.Helper()
	conn, err := pgx.Connect(g.t.Context(), g.cluster.URL("understudy", g.db))
	if err != nil {
		g.t.Fatal(err)
	}
	defer conn.Close(g.t.Context()) //nolint:errcheck // read only
	err = conn.QueryRow(g.t.Context(), `SELECT coalesce(string_agg(concat_ws(' ', m.id, m.received, m.subject, m.size, m.segment, m.seg_offset, m.seg_length,
		(SELECT string_agg(x.mailbox, ',') FROM message_mailbox x WHERE x.id = m.id)), E'\n' ORDER BY m.id), ''), count(*) FROM message m`).Scan(&text, &n)
	if err != nil {
		g.t.Fatal(err)
	}
	return text, n
}

// local is how many segments lie on this machine.
func (g *gateway) local() int {
	g.t.Helper()
	s, err := archive.Segments(g.dir + "/archive")
	if err != nil {
		g.t.Fatal(err)
	}
	return len(s)
}

// exec changes the database behind everybody's back.
func (g *gateway) exec(sql string, args ...any) {
	g.t.Helper()
	pool, err := pgxpool.New(g.t.Context(), g.cluster.URL("understudy_app", g.db))
	if err != nil {
		g.t.Fatal(err)
	}
	defer pool.Close()
	if _, err := pool.Exec(g.t.Context(), sql, args...); err != nil {
		g.t.Fatal(err)
	}
}
