package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"understudy/internal/store"
)

const batchMessages = 5000

// archive is a database with the index of so many messages.
type archive struct {
	messages   int
	generator  *generator
	store      *store.Store
	admin      string // URL of the server
	name       string // of the database
	textBytes  int64  // of the bodies; 0 when they were there already
	took       time.Duration
	indexBytes int64 // of all tables of the index
	backend    int   // process of the connection
	times      [][]float64
	work       [][]float64 // likewise, of processors
}

// open makes and fills the database, unless it is to be used as it is.
func open(ctx context.Context, o options, messages int) (*archive, error) {
	a := &archive{messages: messages, generator: newGenerator(messages), admin: o.postgres, name: fmt.Sprintf("searchbench_%d", messages)}
	conn, err := pgx.Connect(ctx, o.postgres)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	var there bool
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, a.name).Scan(&there); err != nil {
		return nil, err
	}
	if there && !o.keep {
		return nil, fmt.Errorf("there is a database %s (-keep uses it)", a.name)
	}
	if !there {
		if _, err := conn.Exec(ctx, "CREATE DATABASE "+a.name); err != nil {
			return nil, err
		}
	}
	u, err := url.Parse(o.postgres)
	if err != nil {
		return nil, err
	}
	u.Path = a.name
	cfg, err := pgxpool.ParseConfig(u.String())
	if err != nil {
		return nil, err
	}
	cfg.MaxConns = 1
	if !there {
		if _, err := store.Migrate(ctx, cfg); err != nil {
			return nil, err
		}
	}
	if a.store, err = store.New(ctx, cfg); err != nil {
		return nil, err
	}
	if !there {
		if err := a.fill(ctx); err != nil {
			return nil, err
		}
	}
	return a, a.store.Pool.QueryRow(ctx, `SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class
		WHERE relkind = 'r' AND relname ~ '^(message|message_mailbox|posting)_'`).Scan(&a.indexBytes)
}

// close drops the database unless it is to be kept.
func (a *archive) close(ctx context.Context, keep bool) {
	a.store.Close()
	conn, err := pgx.Connect(ctx, a.admin)
	if err != nil || keep {
		return
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "DROP DATABASE "+a.name); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// fill indexes the messages as a worker does that catches up, and tidies days
// that are over.
func (a *archive) fill(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	batches := make(chan []store.IndexedMessage, 1)
	go func() {
		defer close(batches)
		for at := 0; at < a.messages; {
			b := a.generator.batch(at, min(batchMessages, a.messages-at))
			at += len(b)
			select {
			case batches <- b:
			case <-ctx.Done():
				return
			}
		}
	}()
	begin, done := time.Now(), 0
	for messages := range batches {
		for i := range messages {
			a.textBytes += int64(len(messages[i].Text))
		}
		done += len(messages)
		err := a.store.IndexBatch(ctx, store.IndexBatch{Segment: fmt.Sprintf("generated-%09d", done), To: 1, Sealed: true, Messages: messages})
		if err != nil {
			return err
		}
		if done%100_000 == 0 {
			fmt.Fprintf(os.Stderr, "%d of %d messages, %.0f/s\n", done, a.messages, float64(done)/time.Since(begin).Seconds())
		}
	}
	fmt.Fprintln(os.Stderr, "tidying days")
	for more := ctx.Err() == nil; more; {
		var err error
		if more, err = a.store.TidyIndex(ctx, 0); err != nil {
			return err
		}
	}
	a.took = time.Since(begin)
	for _, sql := range []string{"SET statement_timeout = 0", "VACUUM ANALYZE", "CHECKPOINT"} {
		conn, err := a.store.Pool.Acquire(ctx)
		if err != nil {
			return err
		}
		_, err = conn.Exec(ctx, sql)
		conn.Release()
		if err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return ctx.Err()
}
