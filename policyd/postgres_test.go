package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib" // for the migrations
	"github.com/pressly/goose/v3"

	"understudy/internal/pgtest"
	"understudy/policyd/policytest"
)

// migrate makes the tables, as the owner of the schema.
func migrate(t *testing.T, url string) {
	t.Helper()
	db, err := goose.OpenDBWithDriver("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	p, err := goose.NewProvider(goose.DialectPostgres, db, os.DirFS("../internal/store/migrations"))
	if err == nil {
		_, err = p.Up(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestFollowsPostgreSQL changes the directory under a running service, takes
// PostgreSQL away, and starts the service again without it.
func TestFollowsPostgreSQL(t *testing.T) {
	t.Parallel()
	cluster, err := pgtest.Start()
	if err != nil {
		t.Fatal(err)
	}
	stopped := false
	t.Cleanup(func() {
		if stopped {
			os.RemoveAll(cluster.Dir)
		} else if err := cluster.Remove(); err != nil {
			t.Error(err)
		}
	})
	// Not cluster.Database: that drops it at the end, and the server is stopped by then.
	const database = "postgres"
	exec := func(sql string) {
		t.Helper()
		conn, err := pgx.Connect(t.Context(), cluster.URL("postgres", database))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	migrate(t, cluster.URL("postgres", database))
	exec(`INSERT INTO domain (name, primaries, activation) VALUES ('example.test', '{192.0.2.1:25}', 'automatic');
		INSERT INTO mailbox (domain_id, address) SELECT id, 'ana@example.test' FROM domain`)

	c := newConfig(t)
	c.Database.URL = cluster.URL("understudy_mail", database)
	_, stop := startService(t, c)
	maps := dial(t, c.SocketmapListen)
	becomes := func(key, want string) {
		t.Helper()
		eventually(t, func() error {
			got, err := maps.Lookup("transport", key)
			if err != nil || !strings.HasPrefix(got, want) {
				return fmt.Errorf("transport %s: %q, %w; want %q", key, got, err, want)
			}
			return nil
		})
	}
	const auto, portal, hold = "OK relay-auto:[192.0.2.1]:25", "OK lmtp:", "OK relay-hold:[192.0.2.1]:25"
	becomes("ana@example.test", auto)
	exec(`UPDATE domain SET mode = 'emergency', mode_since = now(), primary_failing = true`)
	becomes("ana@example.test", portal)
	exec(`INSERT INTO mailbox (domain_id, address) SELECT id, 'bruno@example.test' FROM domain`)
	becomes("bruno@example.test", portal)
	exec(`DELETE FROM mailbox WHERE address = 'bruno@example.test'`)
	becomes("bruno@example.test", hold)

	if err := cluster.StopServer(); err != nil {
		t.Fatal(err)
	}
	stopped = true
	metricsSay(t, c, "understudy_directory_connected 0")
	lookup(t, maps, "transport", "ana@example.test", portal)
	ask(t, dial(t, c.PolicyListen), policytest.NewRequest().Recipient("dora@example.test"), "550 5.1.1 ")

	stop()
	startService(t, c)
	lookup(t, dial(t, c.SocketmapListen), "transport", "ana@example.test", portal)
	lookup(t, dial(t, c.SocketmapListen), "transport", "bruno@example.test", hold)
}
