package store

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"understudy/internal/directory"
	"understudy/internal/pgtest"
)

var cluster *pgtest.Cluster

func TestMain(m *testing.M) { pgtest.Main(m, &cluster) }

// newStore returns a store on a migrated database of its own, as the role of
// worker and admin.
func newStore(t *testing.T) *Store {
	t.Helper()
	name := cluster.Migrated(t, func(url string) error {
		owner, err := pgxpool.ParseConfig(url)
		if err == nil {
			_, err = Migrate(context.Background(), owner)
		}
		return err
	})
	cfg, err := pgxpool.ParseConfig(cluster.URL("understudy_app", name))
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if err := s.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func migrate(t *testing.T, name string) []string {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(cluster.URL("understudy", name))
	if err != nil {
		t.Fatal(err)
	}
	applied, err := Migrate(context.WithoutCancel(t.Context()), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return applied
}

// addDomain inserts example.test, automatic, and returns its name.
func addDomain(t *testing.T, s *Store) string {
	t.Helper()
	_, err := s.Pool.Exec(t.Context(), `INSERT INTO domain (name, primaries, activation) VALUES ('example.test', '{127.0.0.1:25}', 'automatic')`)
	if err != nil {
		t.Fatal(err)
	}
	return "example.test"
}

func TestMigrateTwice(t *testing.T) {
	t.Parallel()
	name := cluster.Database(t)
	if applied := migrate(t, name); len(applied) == 0 {
		t.Error("the first migration applied nothing")
	}
	if applied := migrate(t, name); len(applied) != 0 {
		t.Errorf("the second migration applied %v", applied)
	}
}

func TestReadyRefusesForeignSchema(t *testing.T) {
	t.Parallel()
	name := cluster.Database(t)
	cfg, err := pgxpool.ParseConfig(cluster.URL("understudy_app", name))
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Ready(t.Context()); !errors.Is(err, ErrSchema) {
		t.Errorf("empty database: %v, want ErrSchema", err)
	}
}

// TestServicesHoldNoDDLRights asks PostgreSQL itself.
func TestServicesHoldNoDDLRights(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for _, sql := range []string{"CREATE TABLE x ()", "DROP TABLE domain", "ALTER TABLE domain ADD x int", "TRUNCATE domain CASCADE", "DELETE FROM goose_db_version"} {
		if _, err := s.Pool.Exec(t.Context(), sql); !isCode(err, "42501") {
			t.Errorf("%s: %v, want insufficient_privilege", sql, err)
		}
	}
	if _, err := s.Pool.Exec(t.Context(), "SELECT ensure_message_partition('2026-01-31')"); err != nil {
		t.Error(err)
	}
	if _, err := s.Pool.Exec(t.Context(), "INSERT INTO message_mailbox VALUES ('2026-01-31 23:59:59Z', gen_random_uuid(), 'a@b', 'b')"); err != nil {
		t.Error(err)
	}
}

func TestSwitchMode(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ctx := t.Context()
	domain := addDomain(t, s)
	machine := Switch{Domain: domain, To: directory.Emergency, Actor: "detector", Reason: "3 of 3 connects refused", Evidence: map[string]int{"refused": 3}}
	if c, err := s.SwitchMode(ctx, machine); err != nil || c == nil || c.From != directory.Normal || c.To != directory.Emergency {
		t.Fatalf("got %+v, %v", c, err)
	}
	if c, err := s.SwitchMode(ctx, machine); err != nil || c != nil {
		t.Errorf("again: %+v, %v; want nothing", c, err)
	}
	// A person takes the emergency over: from now on the machine must not end it.
	person := Switch{Domain: domain, To: directory.Emergency, Actor: "op", Manual: true, Reason: "maintenance"}
	if _, err := s.SwitchMode(ctx, person); err != nil {
		t.Fatal(err)
	}
	machine.To = directory.Normal
	if _, err := s.SwitchMode(ctx, machine); !errors.Is(err, ErrConflict) {
		t.Errorf("the machine ended a manual emergency: %v", err)
	}
	person.To = directory.Normal
	if c, err := s.SwitchMode(ctx, person); err != nil || c == nil {
		t.Fatalf("got %+v, %v", c, err)
	}
	line, err := s.Timeline(ctx, domain, 10)
	if err != nil || len(line) != 2 || line[0].Actor != "op" || line[1].Actor != "detector" {
		t.Errorf("timeline %+v, %v", line, err)
	}
	if _, err := s.SwitchMode(ctx, Switch{Domain: "unknown.test", To: directory.Normal, Manual: true}); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown domain: %v", err)
	}
}
