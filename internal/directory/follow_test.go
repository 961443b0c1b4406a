package directory_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"understudy/internal/address"
	"understudy/internal/directory"
	"understudy/internal/pgtest"
	"understudy/internal/store/storetest"
	"understudy/internal/wait"
)

var cluster *pgtest.Cluster

func TestMain(m *testing.M) { pgtest.Main(m, &cluster) }

// database is a migrated database and a pool of the role that writes it.
type database struct {
	t       *testing.T
	cluster *pgtest.Cluster
	name    string
	pool    *pgxpool.Pool
}

func newDatabase(t *testing.T, c *pgtest.Cluster) *database {
	t.Helper()
	db := &database{t: t, cluster: c, name: storetest.Database(t, c)}
	var err error
	if db.pool, err = pgxpool.New(t.Context(), c.URL("understudy_app", db.name)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.pool.Close)
	return db
}

func (db *database) exec(sql string, args ...any) {
	db.t.Helper()
	if _, err := db.pool.Exec(db.t.Context(), sql, args...); err != nil {
		db.t.Fatalf("%s: %v", sql, err)
	}
}

// example adds example.test with ana, bruno and the alias info for ana.
func (db *database) example() {
	db.t.Helper()
	db.exec(`INSERT INTO domain (name, primaries, outbound_networks) VALUES ('example.test', '{127.0.0.1:25}', '{192.0.2.1/32}')`)
	db.exec(`INSERT INTO mailbox (domain_id, address) SELECT id, unnest('{ana@example.test,bruno@example.test}'::text[]) FROM domain`)
	db.exec(`INSERT INTO alias (domain_id, address, mailbox_id) SELECT domain_id, 'info@example.test', id FROM mailbox WHERE address = 'ana@example.test'`)
	db.exec(`INSERT INTO credential (mailbox_id, kind, hash) SELECT id, 'password', '$argon2id$' || address FROM mailbox`)
}

// follow starts a follower in the given role and returns its directory.
func (db *database) follow(role string, f directory.Follower) (d *directory.Directory, stop func()) {
	db.t.Helper()
	cfg, err := pgx.ParseConfig(db.cluster.URL(role, db.name))
	if err != nil {
		db.t.Fatal(err)
	}
	f.Directory, f.Metrics = directory.New(), prometheus.NewRegistry()
	if f.Config == nil {
		f.Config = cfg
	}
	if f.Log == nil {
		f.Log = slog.New(slog.DiscardHandler)
	}
	if f.File != "" {
		if err := f.Directory.Load(f.File); err != nil {
			db.t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(db.t.Context()))
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := f.Run(ctx); err != nil {
			db.t.Error(err)
		}
	})
	stop = func() { cancel(); wg.Wait() }
	db.t.Cleanup(stop)
	return f.Directory, stop
}

func recipient(t *testing.T, d *directory.Directory, s string) directory.Recipient {
	t.Helper()
	a, err := address.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return d.Recipient(a)
}

func mailboxOf(t *testing.T, d *directory.Directory, s string) string {
	t.Helper()
	if r := recipient(t, d, s); r.Mailbox != nil {
		return r.Mailbox.Address
	}
	return ""
}

// soon waits for what a notification brings: for half of the time after which
// a follower looks by itself.
func soon(t *testing.T, what string, ok func() bool) {
	t.Helper()
	wait.Within(t, 15*time.Second, what, func() error {
		if !ok() {
			return errors.New("not so")
		}
		return nil
	})
}

func TestFollow(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, cluster)
	db.example()
	d, _ := db.follow("understudy_mail", directory.Follower{})
	wait.True(t, "the first load", d.Loaded)
	if got := mailboxOf(t, d, "Ana+x@Example.test"); got != "ana@example.test" {
		t.Errorf("ana is %q", got)
	}
	if got := mailboxOf(t, d, "info@example.test"); got != "ana@example.test" {
		t.Errorf("the alias leads to %q", got)
	}
	if n := len(d.OutboundDomains(d.Domains()[0].OutboundNetworks[0].Addr())); n != 1 {
		t.Errorf("%d domains send from 192.0.2.1", n)
	}
	// A change is seen when PostgreSQL tells of it.
	db.exec(`UPDATE domain SET mode = 'emergency', mode_since = now()`)
	soon(t, "the mode", func() bool { return d.Domains()[0].Mode == directory.Emergency })
	db.exec(`INSERT INTO mailbox (domain_id, address, covered) SELECT id, 'carla@example.test', false FROM domain`)
	soon(t, "a new mailbox", func() bool { return mailboxOf(t, d, "carla@example.test") != "" })
	db.exec(`UPDATE alias SET mailbox_id = (SELECT id FROM mailbox WHERE address = 'bruno@example.test')`)
	soon(t, "the alias moved", func() bool { return mailboxOf(t, d, "info@example.test") == "bruno@example.test" })
	// The same address again, in one transaction and in two.
	before := recipient(t, d, "ana@example.test").Mailbox.ID
	tx, err := db.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{`DELETE FROM mailbox WHERE address = 'ana@example.test'`,
		`INSERT INTO mailbox (domain_id, address) SELECT id, 'ana@example.test' FROM domain`} {
		if _, err := tx.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	soon(t, "another ana", func() bool {
		r := recipient(t, d, "ana@example.test")
		return r.Mailbox != nil && r.Mailbox.ID != before
	})
	db.exec(`DELETE FROM mailbox WHERE address = 'bruno@example.test'`)
	soon(t, "bruno and the alias gone", func() bool { return mailboxOf(t, d, "bruno@example.test")+mailboxOf(t, d, "info@example.test") == "" })
	db.exec(`INSERT INTO mailbox (domain_id, address) SELECT id, 'info@example.test' FROM domain`)
	soon(t, "a mailbox in the alias's place", func() bool { return mailboxOf(t, d, "info@example.test") == "info@example.test" })
	db.exec(`DELETE FROM domain`)
	soon(t, "the domain gone", func() bool { return len(d.Domains()) == 0 && mailboxOf(t, d, "info@example.test") == "" })
}

func TestCredentialsOnlyWhenAsked(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, cluster)
	db.example()
	with, _ := db.follow("understudy_auth", directory.Follower{Credentials: true})
	without, _ := db.follow("understudy_mail", directory.Follower{})
	wait.True(t, "both loaded", func() bool { return with.Loaded() && without.Loaded() })
	ana := recipient(t, with, "ana@example.test").Mailbox.ID
	if c := with.Credentials(ana); len(c) != 1 || c[0].Hash != "$argon2id$ana@example.test" {
		t.Errorf("credentials %+v", c)
	}
	if c := without.Credentials(ana); len(c) != 0 {
		t.Errorf("credentials that were not asked for: %+v", c)
	}
	db.exec(`UPDATE credential SET hash = 'new' WHERE mailbox_id = $1`, ana)
	soon(t, "the new password", func() bool { c := with.Credentials(ana); return len(c) == 1 && c[0].Hash == "new" })
	db.exec(`DELETE FROM credential WHERE mailbox_id = $1`, ana)
	soon(t, "no password", func() bool { return len(with.Credentials(ana)) == 0 })
	// The role of milter and policyd cannot read hashes at all.
	conn, err := pgx.Connect(t.Context(), cluster.URL("understudy_mail", db.name))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context())) //nolint:errcheck
	if _, err := conn.Exec(t.Context(), `SELECT hash FROM credential`); err == nil {
		t.Error("understudy_mail reads password hashes")
	}
}

func TestOutage(t *testing.T) {
	t.Parallel()
	own, err := pgtest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { own.Remove() })
	db := newDatabase(t, own)
	db.example()
	d, _ := db.follow("understudy_mail", directory.Follower{})
	wait.True(t, "the first load", d.Loaded)
	if err := own.StopServer(); err != nil {
		t.Fatal(err)
	}
	if got := mailboxOf(t, d, "info@example.test"); got != "ana@example.test" {
		t.Errorf("without PostgreSQL the alias leads to %q", got)
	}
	if err := own.StartServer(); err != nil {
		t.Fatal(err)
	}
	wait.True(t, "PostgreSQL", func() bool {
		_, err := db.pool.Exec(t.Context(), `INSERT INTO mailbox (domain_id, address) SELECT id, 'carla@example.test' FROM domain ON CONFLICT DO NOTHING`)
		return err == nil
	})
	wait.True(t, "a change after the outage", func() bool { return mailboxOf(t, d, "carla@example.test") != "" })
	db.exec(`DELETE FROM mailbox WHERE address = 'carla@example.test'`)
	soon(t, "notifications again", func() bool { return mailboxOf(t, d, "carla@example.test") == "" })
}

// TestFile: saved, loaded without PostgreSQL, and brought up to date.
func TestFile(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, cluster)
	db.example()
	file := filepath.Join(t.TempDir(), "directory.json")
	d, stop := db.follow("understudy_auth", directory.Follower{File: file, Credentials: true})
	wait.True(t, "the file", func() bool { _, err := os.Stat(file); return err == nil })
	db.exec(`UPDATE mailbox SET name = 'Ana' WHERE address = 'ana@example.test'`)
	soon(t, "the change", func() bool { return recipient(t, d, "ana@example.test").Mailbox.Name == "Ana" })
	stop() // saves a last time
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info.Mode(), err)
	}
	alone := directory.New()
	if err := alone.Load(file); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(picture(d), picture(alone)); diff != "" || !alone.Loaded() || alone.Version() != d.Version() {
		t.Error(diff)
	}
	// What was deleted while nobody followed is gone after the next start.
	db.exec(`DELETE FROM mailbox WHERE address = 'bruno@example.test'`)
	again, _ := db.follow("understudy_auth", directory.Follower{File: file, Credentials: true})
	wait.True(t, "bruno gone", func() bool { return mailboxOf(t, again, "bruno@example.test") == "" })
	// A database that was built anew is loaded in full, whatever the file said.
	other := newDatabase(t, cluster)
	other.exec(`INSERT INTO domain (name, primaries) VALUES ('other.test', '{127.0.0.1:25}')`)
	rebuilt, _ := other.follow("understudy_auth", directory.Follower{File: file, Credentials: true})
	wait.True(t, "the other database's directory", func() bool {
		domains := rebuilt.Domains()
		return len(domains) == 1 && domains[0].Name == "other.test"
	})
}

func TestFileTrouble(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := directory.New()
	if err := d.Load(filepath.Join(dir, "missing")); err != nil || d.Loaded() {
		t.Errorf("a missing file: %v, loaded %v", err, d.Loaded())
	}
	for name, text := range map[string]string{"torn": `{"format":1,"domains":[{"na`, "future": `{"format":99}`, "empty": ""} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := d.Load(path); err == nil || d.Loaded() || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, loaded %v", name, err, d.Loaded())
		}
	}
}

// TestUnloadedAtStart: neither PostgreSQL nor a file; nothing is known, and
// it says so.
func TestUnloadedAtStart(t *testing.T) {
	t.Parallel()
	cfg, err := pgx.ParseConfig("postgres://understudy_mail@127.0.0.1:1/none")
	if err != nil {
		t.Fatal(err)
	}
	d := directory.New()
	file := filepath.Join(t.TempDir(), "directory.json")
	f := &directory.Follower{Directory: d, Config: cfg, File: file, Log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if err := f.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err == nil || d.Loaded() {
		t.Errorf("loaded %v; an empty directory was saved: %v", d.Loaded(), err == nil)
	}
}

// picture is all that a directory holds, in an order.
func picture(d *directory.Directory) map[string]any {
	out := map[string]any{}
	for _, dom := range d.Domains() {
		dom := *dom
		dom.ModeSince = dom.ModeSince.UTC()
		out["domain "+dom.Name] = fmt.Sprintf("%+v", dom)
		for _, m := range d.Mailboxes(dom.ID) {
			out["mailbox "+m.Address] = *m
			for _, c := range d.Credentials(m.ID) {
				out[fmt.Sprintf("credential %d", c.ID)] = *c
			}
		}
	}
	return out
}

// TestManyWriters: transactions that commit in any order, some rolled back; a
// follower from the start and one that comes later hold what the database
// holds.
func TestManyWriters(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, cluster)
	d, _ := db.follow("understudy_auth", directory.Follower{Credentials: true})
	wait.True(t, "the first load", d.Loaded)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 1))
			for range 40 {
				if err := db.scramble(rnd); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	late, _ := db.follow("understudy_auth", directory.Follower{Credentials: true})
	wait.True(t, "the late follower", func() bool { return late.Loaded() && cmp.Equal(picture(late), picture(d)) })
	if got, want := d.Version(), db.newest(); got != want {
		t.Errorf("version %d, the database has %d", got, want)
	}
	rows, err := db.pool.Query(t.Context(), `SELECT address FROM mailbox ORDER BY address`)
	if err != nil {
		t.Fatal(err)
	}
	want, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, dom := range d.Domains() {
		for _, m := range d.Mailboxes(dom.ID) {
			got = append(got, m.Address)
		}
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(want) == 0 {
		t.Error("nothing left to compare")
	}
}

// scramble changes a few rows in one transaction.
func (db *database) scramble(rnd *rand.Rand) error {
	ctx := db.t.Context()
	tx, err := db.pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // committed, most often
	for range 1 + rnd.IntN(3) {
		domain := fmt.Sprintf("d%d.test", rnd.IntN(4))
		box := fmt.Sprintf("m%d@%s", rnd.IntN(6), domain)
		var sql string
		args := []any{domain}
		switch rnd.IntN(10) {
		case 0:
			sql = `DELETE FROM domain WHERE name = $1`
		case 1, 2:
			sql = `INSERT INTO domain (name, primaries) VALUES ($1, '{127.0.0.1:25}') ON CONFLICT (name) DO UPDATE SET retention_days = domain.retention_days % 1000 + 1`
		case 3:
			sql = `DELETE FROM mailbox WHERE address = $1`
			args = []any{box}
		case 4:
			sql = `UPDATE mailbox SET name = name || 'x' WHERE address = $1`
			args = []any{box}
		case 5:
			sql = `INSERT INTO credential (mailbox_id, kind, label, hash) SELECT id, 'app', $2, 'h' FROM mailbox WHERE address = $1 ON CONFLICT DO NOTHING`
			args = []any{box, fmt.Sprint(rnd.IntN(3))}
		default:
			sql = `INSERT INTO mailbox (domain_id, address) SELECT id, $2 FROM domain WHERE name = $1 ON CONFLICT DO NOTHING`
			args = []any{domain, box}
		}
		_, err := tx.Exec(ctx, sql, args...)
		var pg *pgconn.PgError
		if errors.As(err, &pg) && pg.Code == "23503" { // another has just deleted the domain: rolled back
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	if rnd.IntN(5) == 0 {
		return tx.Rollback(ctx)
	}
	return tx.Commit(ctx)
}

// newest is the newest version of any row or deletion.
func (db *database) newest() (v int64) {
	err := db.pool.QueryRow(db.t.Context(), `SELECT greatest((SELECT max(version) FROM domain), (SELECT max(version) FROM mailbox),
		(SELECT max(version) FROM alias), (SELECT max(version) FROM credential), (SELECT max(version) FROM directory_deleted))`).Scan(&v)
	if err != nil {
		db.t.Error(err)
	}
	return v
}

// TestWaitingDoesNotBreakTheConnection: what Follower relies on in pgx: a
// timeout of WaitForNotification leaves the connection good.
func TestWaitingDoesNotBreakTheConnection(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), cluster.URL("postgres", "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context())) //nolint:errcheck
	if _, err := conn.Exec(t.Context(), "LISTEN test_wait"); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		_, err := conn.WaitForNotification(ctx)
		cancel()
		if err == nil || conn.IsClosed() {
			t.Fatalf("after a timeout: %v, closed %v", err, conn.IsClosed())
		}
		if _, err := conn.Exec(t.Context(), "SELECT 1"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := conn.Exec(t.Context(), "NOTIFY test_wait, 'x'"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if n, err := conn.WaitForNotification(ctx); err != nil || n.Payload != "x" {
		t.Errorf("%+v, %v", n, err)
	}
}
