// Package storetest gives tests a store on a real PostgreSQL, with the schema
// in place.
package storetest

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"understudy/internal/pgtest"
	"understudy/internal/store"
)

// Database makes a migrated database of the test's own and returns its name.
func Database(tb testing.TB, c *pgtest.Cluster) string {
	tb.Helper()
	name := c.Migrated(tb, func(url string) error {
		owner, err := pgxpool.ParseConfig(url)
		if err != nil {
			return err
		}
		_, err = store.Migrate(context.Background(), owner)
		return err
	})
	// A copy is another database: followers must not take it for the template.
	conn, err := pgx.Connect(tb.Context(), c.URL("understudy", name))
	if err != nil {
		tb.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(tb.Context())) //nolint:errcheck // best effort
	if _, err := conn.Exec(tb.Context(), "UPDATE directory_epoch SET epoch = gen_random_uuid()"); err != nil {
		tb.Fatal(err)
	}
	return name
}

// Config is how worker and admin reach a database.
func Config(tb testing.TB, c *pgtest.Cluster, database string) *pgxpool.Config {
	tb.Helper()
	cfg, err := pgxpool.ParseConfig(c.URL("understudy_app", database))
	if err != nil {
		tb.Fatal(err)
	}
	return cfg
}

// Open gives a store on a database of the test's own.
func Open(tb testing.TB, c *pgtest.Cluster) *store.Store {
	tb.Helper()
	s, err := store.New(tb.Context(), Config(tb, c, Database(tb, c)))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	return s
}
