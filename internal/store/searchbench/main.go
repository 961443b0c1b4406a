// Command searchbench measures how long searches take: it fills an empty
// database with generated messages and times typical queries of users and
// admins.
//
//	go run ./internal/store/searchbench -messages 1000000 -postgres postgres://understudy@127.0.0.1:5432/bench
//
// The role must own the database (and may be a superuser); with -keep an index
// that is already there is used as it is.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"understudy/internal/store"
)

type options struct {
	messages, rounds int
	postgres         string
	json, keep       bool
}

func main() {
	var o options
	flag.IntVar(&o.messages, "messages", 100_000, "messages to generate")
	flag.IntVar(&o.rounds, "rounds", 40, "times that each query runs, each time with other words")
	flag.StringVar(&o.postgres, "postgres", "", "URL of an empty database")
	flag.BoolVar(&o.json, "json", false, "print JSON")
	flag.BoolVar(&o.keep, "keep", false, "use the messages that are there")
	flag.Parse()
	if o.postgres == "" || o.messages < 1000 || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "searchbench:", err)
		os.Exit(1)
	}
}

// report is what is printed.
type report struct {
	Messages   int      `json:"messages"`
	TextBytes  int64    `json:"text_bytes"`  // of the generated bodies
	IndexBytes int64    `json:"index_bytes"` // of all tables of the index
	Queries    []result `json:"queries"`
	P50        float64  `json:"p50_ms"` // of all runs of all queries
	P95        float64  `json:"p95_ms"`
}

func run(ctx context.Context, o options) error {
	cfg, err := pgxpool.ParseConfig(o.postgres)
	if err != nil {
		return err
	}
	if !o.keep {
		if _, err := store.Migrate(ctx, cfg); err != nil {
			return err
		}
	}
	s, err := store.New(ctx, cfg)
	if err != nil {
		return err
	}
	defer s.Close()
	g := newGenerator(o.messages)
	r := report{Messages: o.messages}
	if !o.keep {
		if r.TextBytes, err = fill(ctx, s, g); err != nil {
			return err
		}
	}
	if r.Queries, r.P50, r.P95, err = measure(ctx, s, g, o.rounds); err != nil {
		return err
	}
	err = s.Pool.QueryRow(ctx, `SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent IN ('message'::regclass, 'message_mailbox'::regclass)`).
		Scan(&r.IndexBytes)
	if err != nil {
		return err
	}
	return r.print(o.json)
}

// fill loads the messages, and makes the word index when they are there: only
// the speed of searches is measured here.
func fill(ctx context.Context, s *store.Store, g *generator) (text int64, err error) {
	var n int
	if err := s.Pool.QueryRow(ctx, `SELECT count(*) FROM (SELECT FROM message LIMIT 1) x`).Scan(&n); err != nil || n > 0 {
		return 0, errors.Join(err, errors.New("the database is not empty (-keep uses what is there)"))
	}
	sql := func(statements ...string) error {
		for _, x := range statements {
			conn, err := s.Pool.Acquire(ctx)
			if err != nil {
				return err
			}
			_, err = conn.Exec(ctx, "SET statement_timeout = 0")
			if err == nil {
				_, err = conn.Exec(ctx, x)
			}
			conn.Release()
			if err != nil {
				return fmt.Errorf("%s: %w", x, err)
			}
		}
		return nil
	}
	var definition string
	if err := s.Pool.QueryRow(ctx, `SELECT pg_get_indexdef('message_tsv_idx'::regclass)`).Scan(&definition); err != nil {
		return 0, err
	}
	if err := sql("DROP INDEX message_tsv_idx"); err != nil {
		return 0, err
	}
	begin := time.Now()
	const batch = 2000
	for at := 0; at < g.messages; {
		messages := g.batch(at, min(batch, g.messages-at))
		for i := range messages {
			text += int64(len(messages[i].Text))
		}
		at += len(messages)
		b := store.IndexBatch{Segment: fmt.Sprintf("generated-%09d", at), To: 1, Sealed: true, Messages: messages}
		if err := s.IndexBatch(ctx, b); err != nil {
			return 0, err
		}
		if at%(50*batch) == 0 {
			fmt.Fprintf(os.Stderr, "%d of %d messages, %.0f/s\n", at, g.messages, float64(at)/time.Since(begin).Seconds())
		}
	}
	fmt.Fprintln(os.Stderr, "making the word index")
	return text, sql(strings.Replace(definition, " ON ONLY ", " ON ", 1), "VACUUM ANALYZE message", "VACUUM ANALYZE message_mailbox", "CHECKPOINT")
}

func (r *report) print(asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	}
	fmt.Printf("%-44s %8s %9s %9s %9s\n", "query", "found", "p50 ms", "p95 ms", "max ms")
	for _, q := range r.Queries {
		fmt.Printf("%-44s %8.1f %9.2f %9.2f %9.2f\n", q.Name, q.Found, q.P50, q.P95, q.Max)
	}
	fmt.Printf("%-44s %8s %9.2f %9.2f\n", fmt.Sprintf("all, %d messages", r.Messages), "", r.P50, r.P95)
	fmt.Printf("index: %.0f MB, %.2f bytes for a byte of text\n", float64(r.IndexBytes)/1e6, float64(r.IndexBytes)/max(1, float64(r.TextBytes)))
	return nil
}
