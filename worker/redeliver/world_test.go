package redeliver

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"understudy/internal/archive"
	"understudy/internal/delivery"
	"understudy/internal/delivery/postfixtest"
	"understudy/internal/directory"
	"understudy/internal/pgtest"
	"understudy/internal/store"
	"understudy/internal/store/storetest"
	"understudy/internal/wait"
)

const (
	domain = "example.test"
	ana    = "ana@example.test"
	bruno  = "bruno@example.test"
)

var cluster *pgtest.Cluster

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		child()
		return
	}
	pgtest.Main(m, &cluster)
}

// world is a primary that drops no header fields, what stands for the way into the portal (another
// Postfix), a database and an archive, all real.
type world struct {
	t       *testing.T
	primary *postfixtest.Server
	reentry *postfixtest.Server
	store   *store.Store
	config  childConfig
	dir     *directory.Directory
	worker  *Worker
	writer  *archive.Writer
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, primary: postfixtest.Start(t, postfixtest.Options{Main: "message_drop_headers =\n"}), reentry: postfixtest.Start(t, postfixtest.Options{}), dir: directory.New()}
	w.config = childConfig{Database: cluster.URL("understudy_app", storetest.Database(t, cluster)), Archive: t.TempDir(), Reentry: w.reentry.SMTP}
	var stop func()
	var err error
	if w.worker, w.store, stop, err = w.config.worker(w.dir, prometheus.NewRegistry()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	w.exec(`INSERT INTO domain (name, primaries, activation) VALUES ($1, $2, 'automatic')`, domain, []string{w.primary.SMTP})
	w.exec(`INSERT INTO mailbox (domain_id, address) SELECT id, unnest($1::text[]) FROM domain`, []string{ana, bruno})
	if w.writer, err = archive.OpenWriter(w.config.Archive, archive.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.writer.Close() })
	w.await("the directory", func() bool { return len(w.dir.Domains()) == 1 && len(w.dir.Mailboxes(w.dir.Domains()[0].ID)) == 2 })
	return w
}

// childConfig is what a process needs to redeliver.
type childConfig struct{ Database, Archive, Reentry string }

// worker makes a worker as the service does.
func (c childConfig) worker(dir *directory.Directory, reg prometheus.Registerer) (*Worker, *store.Store, func(), error) {
	cfg, err := pgxpool.ParseConfig(c.Database)
	if err != nil {
		return nil, nil, nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s, err := store.New(ctx, cfg)
	if err != nil {
		cancel()
		return nil, nil, nil, err
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		f := directory.Follower{Directory: dir, Config: cfg.ConnConfig, Log: slog.New(slog.DiscardHandler)}
		f.Run(ctx) //nolint:errcheck // only about its file, which it has not
	})
	return New(Config{Directory: dir, Store: s, Delivery: &delivery.Client{Helo: "worker.test"}, Reentry: c.Reentry, Timeout: time.Minute,
		Open: func(_ context.Context, ref archive.Ref) (*archive.Record, error) {
			return archive.ReadRecord(c.Archive, ref)
		},
		Log: slog.New(slog.DiscardHandler), Metrics: reg}), s, func() { cancel(); wg.Wait(); s.Close() }, nil
}

// opener reads the archive in a directory.
func (w *world) opener(dir string) func(context.Context, archive.Ref) (*archive.Record, error) {
	return func(_ context.Context, ref archive.Ref) (*archive.Record, error) { return archive.ReadRecord(dir, ref) }
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	if _, err := w.store.Pool.Exec(w.t.Context(), sql, args...); err != nil {
		w.t.Fatal(err)
	}
}

// add archives and indexes messages with these bodies, for mailboxes.
func (w *world) add(sender string, direction archive.Direction, mailboxes []string, bodies ...string) (ids []uuid.UUID) {
	w.t.Helper()
	for _, body := range bodies {
		spool := archive.NewSpool(w.t.TempDir(), 1<<24)
		if _, err := spool.Write([]byte(body)); err != nil {
			w.t.Fatal(err)
		}
		e := &archive.Envelope{ID: uuid.Must(uuid.NewV7()), Received: time.Now().UTC().Truncate(time.Microsecond), Direction: direction, Sender: sender,
			Recipients: mailboxes, Mailboxes: mailboxes}
		ref, err := w.writer.Append(w.t.Context(), e, spool)
		if err != nil {
			w.t.Fatal(err)
		}
		ids = append(ids, e.ID)
		m := store.IndexedMessage{ID: e.ID, Received: e.Received, Direction: string(direction), Sender: sender, Recipients: mailboxes, Mailboxes: mailboxes,
			Subject: "redelivery", Size: int64(len(body)), Segment: ref.Segment, Offset: ref.Offset, Length: ref.Length}
		if err := w.store.IndexBatch(w.t.Context(), store.IndexBatch{Segment: ref.Segment, From: ref.Offset, To: ref.Offset + ref.Length, Messages: []store.IndexedMessage{m}}); err != nil {
			w.t.Fatal(err)
		}
	}
	return ids
}

// order enters a redelivery for the operator.
func (w *world) order(ids ...uuid.UUID) *store.Redelivery {
	w.t.Helper()
	r, err := w.store.Redeliver(w.t.Context(), store.NewRedelivery{Actor: "op", Access: store.Access{All: true}, Messages: ids})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// run makes one pass and returns how the redelivery stands.
func (w *world) run(id int64) (*store.Redelivery, time.Duration) {
	w.t.Helper()
	nap, err := w.worker.Run(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	r, err := w.store.Redelivery(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return r, nap
}

func (w *world) await(what string, done func() bool) {
	w.t.Helper()
	wait.True(w.t, what, done)
}

func (w *world) setMode(to directory.Mode) {
	w.t.Helper()
	if _, err := w.store.SwitchMode(w.t.Context(), store.Switch{Domain: domain, To: to, Actor: "op", Manual: true, Reason: "test"}); err != nil {
		w.t.Fatal(err)
	}
	w.await("the mode", func() bool { d, _ := w.dir.Domain(domain); return d.Mode == to })
}

func numbered(n int) string {
	return fmt.Sprintf("From: s@x.test\r\nSubject: number %d\r\n\r\nbody of %d\r\n%s", n, n, strings.Repeat("line\r\n", 50))
}
