package store

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// Sessions keeps the website's sessions, for scs (scs.CtxStore). Every query
// ends with the request's deadline, so that a database that hangs holds no
// page up for longer.
type Sessions struct{ store *Store }

// Sessions returns the session store.
func (s *Store) Sessions() *Sessions { return &Sessions{s} }

// FindCtx returns the data of a session that has not expired.
func (x *Sessions) FindCtx(ctx context.Context, token string) (data []byte, found bool, err error) {
	err = x.store.Pool.QueryRow(ctx, `SELECT data FROM sessions WHERE token = $1 AND now() < expiry`, token).Scan(&data)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, false, nil
	}
	return data, err == nil, wrap("read session", err)
}

// CommitCtx writes a session.
func (x *Sessions) CommitCtx(ctx context.Context, token string, data []byte, expiry time.Time) error {
	_, err := x.store.Pool.Exec(ctx, `INSERT INTO sessions (token, data, expiry) VALUES ($1, $2, $3)
		ON CONFLICT (token) DO UPDATE SET data = excluded.data, expiry = excluded.expiry`, token, data, expiry)
	return wrap("write session", err)
}

// DeleteCtx ends a session.
func (x *Sessions) DeleteCtx(ctx context.Context, token string) error {
	_, err := x.store.Pool.Exec(ctx, `DELETE FROM sessions WHERE token = $1`, token)
	return wrap("end session", err)
}

// DeleteExpired forgets sessions that are over.
func (x *Sessions) DeleteExpired(ctx context.Context) error {
	_, err := x.store.Pool.Exec(ctx, `DELETE FROM sessions WHERE expiry < now()`)
	return wrap("delete expired sessions", err)
}

// Find, Commit and Delete are for scs.Store; scs calls the Ctx forms.

// Find is FindCtx without a deadline.
func (x *Sessions) Find(token string) ([]byte, bool, error) {
	return x.FindCtx(context.Background(), token)
}

// Commit is CommitCtx without a deadline.
func (x *Sessions) Commit(token string, data []byte, expiry time.Time) error {
	return x.CommitCtx(context.Background(), token, data, expiry)
}

// Delete is DeleteCtx without a deadline.
func (x *Sessions) Delete(token string) error { return x.DeleteCtx(context.Background(), token) }
