package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"understudy/internal/directory"
)

// LockDrain makes the caller the only one to drain a domain at a gateway until
// it calls release: ok is false when another has the lock. PostgreSQL frees it
// when the process ends in any way.
func (s *Store) LockDrain(ctx context.Context, gateway, domain string) (release func(), ok bool, err error) {
	return s.tryLock(ctx, "drain "+domain+" at "+gateway)
}

// LockRedelivery is LockDrain for a redelivery.
func (s *Store) LockRedelivery(ctx context.Context, id int64) (release func(), ok bool, err error) {
	return s.tryLock(ctx, fmt.Sprintf("redelivery %d", id))
}

// tryLock takes the advisory lock of a name, on a connection of its own.
func (s *Store) tryLock(ctx context.Context, name string) (release func(), ok bool, err error) {
	// Not of the pool: it would be held for as long as the work takes.
	conn, err := pgx.ConnectConfig(ctx, s.Pool.Config().ConnConfig)
	if err != nil {
		return nil, false, fmt.Errorf("lock %s: %w", name, err)
	}
	release = func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		// The server frees the lock with the connection, but in its own time.
		conn.Exec(ctx, `SELECT pg_advisory_unlock_all()`) //nolint:errcheck // best effort
		conn.Close(ctx)                                   //nolint:errcheck // best effort
	}
	// 7526843 is Understudy's number among advisory locks; 1 (the directory) is taken.
	err = conn.QueryRow(ctx, `SELECT pg_try_advisory_lock(7526843, hashtext($1))`, name).Scan(&ok)
	if err != nil || !ok {
		release()
		return nil, false, wrap("lock "+name, err)
	}
	return release, true, nil
}

// ModeState is a domain's mode as the database has it now, for jobs that
// must not act on a directory that has not caught up.
type ModeState struct {
	Mode    directory.Mode `db:"mode"`
	Version int64          `db:"version"` // a directory of this version knows the mode
}

// Mode reads a domain's mode; ErrNotFound when there is no such domain.
func (s *Store) Mode(ctx context.Context, domain string) (ModeState, error) {
	rows, err := s.Pool.Query(ctx, `SELECT mode, version FROM domain WHERE name = $1`, domain)
	if err != nil {
		return ModeState{}, wrap("read mode of "+domain, err)
	}
	out, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[ModeState])
	return out, wrap("read mode of "+domain, err)
}
