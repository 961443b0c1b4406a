package store

import (
	"context"
	"time"
)

// How long what is done is remembered.
const (
	KeepRedeliveries = 90 * 24 * time.Hour  // after their end
	KeepAudit        = 400 * 24 * time.Hour // of looks at somebody else's mail
)

const pruneBatch = 10_000 // rows of one statement

// Prune forgets redeliveries and lines of the audit that are older than is
// remembered, and returns how many. A redelivery that is not finished stays.
// A clock that is ahead of the database server's makes nothing older.
func (s *Store) Prune(ctx context.Context, at time.Time) (redeliveries, audit int64, err error) {
	if err := s.Pool.QueryRow(ctx, `SELECT least($1::timestamptz, now())`, at).Scan(&at); err != nil {
		return 0, 0, wrap("ask for the time", err)
	}
	// Items first, in steps: one redelivery may have millions.
	_, err = s.prune(ctx, `DELETE FROM redelivery_item WHERE ctid = ANY (ARRAY(SELECT i.ctid FROM redelivery_item i JOIN redelivery r ON r.id = i.redelivery
		WHERE r.state = 'done' AND r.finished_at < $1 LIMIT $2))`, at.Add(-KeepRedeliveries))
	if err == nil {
		redeliveries, err = s.prune(ctx, `DELETE FROM redelivery WHERE id = ANY (ARRAY(SELECT id FROM redelivery
			WHERE state = 'done' AND finished_at < $1 ORDER BY id LIMIT $2))`, at.Add(-KeepRedeliveries))
	}
	if err != nil {
		return redeliveries, 0, wrap("forget finished redeliveries", err)
	}
	audit, err = s.prune(ctx, `DELETE FROM audit WHERE id = ANY (ARRAY(SELECT id FROM audit WHERE at < $1 ORDER BY id LIMIT $2))`, at.Add(-KeepAudit))
	return redeliveries, audit, wrap("forget old lines of the audit", err)
}

func (s *Store) prune(ctx context.Context, sql string, before time.Time) (n int64, err error) {
	for {
		tag, err := s.Pool.Exec(ctx, sql, before, pruneBatch)
		if err != nil {
			return n, err
		}
		if n += tag.RowsAffected(); tag.RowsAffected() < pruneBatch {
			return n, nil
		}
	}
}
