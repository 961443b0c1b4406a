// Package store holds every query to PostgreSQL (but for the directory's own
// SELECTs), a file per aggregate, and the schema's migrations.
//
// Only worker and admin use it; when PostgreSQL is down its methods return
// the driver's error within the caller's deadline, and those two wait or say
// so. Nothing on the mail path is among its users.
package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
)

// Errors that callers tell apart.
var (
	ErrNotFound = errors.New("not found")
	ErrConflict = errors.New("already exists")
	ErrInvalid  = errors.New("not valid")
	ErrSchema   = errors.New("the database schema does not fit this program")
)

// Store is a pool of connections with the queries as methods.
type Store struct {
	Pool    *pgxpool.Pool
	jobs    *river.Client[pgx.Tx] // inserts only
	now     func() time.Time      // by which messages expire
	looking chan struct{}         // taken by searches
	memory  int                   // bytes of postings that a search may hold at a time
}

// New opens a pool. It does not wait for the server: see Ready.
func New(ctx context.Context, cfg *pgxpool.Config) (*Store, error) {
	cfg = cfg.Copy()
	cfg.ConnConfig.ConnectTimeout = 5 * time.Second
	// A statement outlives no request by more than this.
	cfg.ConnConfig.RuntimeParams["statement_timeout"] = "60s"
	cfg.ConnConfig.RuntimeParams["jit"] = "off" // compiling takes longer than any query here
	cfg.ConnConfig.RuntimeParams["idle_in_transaction_session_timeout"] = "60s"
	cfg.ConnConfig.StatementCacheCapacity = 1000 // searches have some for each day
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open database pool: %w", err)
	}
	jobs, err := river.NewClient(riverpgxv5.New(pool), &river.Config{})
	if err != nil {
		pool.Close()
		return nil, fmt.Errorf("open job queue: %w", err)
	}
	return &Store{Pool: pool, jobs: jobs, now: time.Now, looking: make(chan struct{}, maxLooking), memory: lookBytes}, nil
}

// Close ends all connections.
func (s *Store) Close() { s.Pool.Close() }

// Ready reports nil when the server answers and its schema fits, else what is
// the matter; ErrSchema is for a person to mend.
func (s *Store) Ready(ctx context.Context) error {
	var have int64
	err := s.Pool.QueryRow(ctx, `SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied`).Scan(&have)
	if isCode(err, "42P01") {
		return fmt.Errorf("%w: it is empty; run: understudy-admin migrate", ErrSchema)
	}
	if err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	want, err := newestMigration()
	if err != nil {
		return err
	}
	if have != want {
		return fmt.Errorf("%w: it is at version %d, this program wants %d; run understudy-admin migrate of the same release", ErrSchema, have, want)
	}
	return nil
}

// Enqueue inserts a job by itself; a unique one that is already waiting is
// left as it is.
func (s *Store) Enqueue(ctx context.Context, args river.JobArgs, opts *river.InsertOpts) error {
	if _, err := s.jobs.Insert(ctx, args, opts); err != nil {
		return fmt.Errorf("insert %s job: %w", args.Kind(), err)
	}
	return nil
}

// tx runs f in a transaction, which is committed when f returns nil.
func (s *Store) tx(ctx context.Context, f func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, s.Pool, f)
}

// wrap gives the driver's errors their names.
func wrap(doing string, err error) error {
	var pg *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("%s: %w", doing, ErrNotFound)
	case errors.As(err, &pg) && pg.Code == "23505":
		return fmt.Errorf("%s: %w", doing, ErrConflict)
	case errors.As(err, &pg) && pg.Code == "23514":
		return fmt.Errorf("%s: %w: %s", doing, ErrInvalid, pg.ConstraintName)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

func isCode(err error, code string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == code
}
