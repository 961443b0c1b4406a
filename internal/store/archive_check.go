package store

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// RecordRow is where a message of the index lies in the archive log.
type RecordRow struct {
	ID      uuid.UUID
	Segment string
	Offset  int64
	Length  int64
}

// EachRecordRow calls f for every message of the index, in no order. It may
// take long: about a second for a million messages.
func (s *Store) EachRecordRow(ctx context.Context, f func(RecordRow) error) error {
	return wrap("read the archive index", s.tx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL statement_timeout = 0`); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `SELECT id, segment, seg_offset, seg_length FROM message`)
		if err != nil {
			return err
		}
		var r RecordRow
		_, err = pgx.ForEachRow(rows, []any{&r.ID, &r.Segment, &r.Offset, &r.Length}, func() error { return f(r) })
		return err
	}))
}

// KnownMessages returns those of the ids that the index has.
func (s *Store) KnownMessages(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]bool, error) {
	rows, err := s.Pool.Query(ctx, `SELECT id FROM message WHERE id = ANY($1)`, ids)
	if err != nil {
		return nil, wrap("look up messages", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, wrap("look up messages", err)
	}
	out := make(map[uuid.UUID]bool, len(found))
	for _, id := range found {
		out[id] = true
	}
	return out, nil
}

// DropIndex removes the messages of the given segments from the index, and
// how far they are indexed, so that the indexer builds them anew. It returns
// how many messages it removed. Indexers wait meanwhile.
func (s *Store) DropIndex(ctx context.Context, segments []string) (int64, error) {
	var n int64
	err := s.tx(ctx, func(tx pgx.Tx) error {
		// Without the lock an indexer could write rows between the statements
		// whose checkpoint stays.
		for _, sql := range []string{`SET LOCAL statement_timeout = 0`, `LOCK TABLE segment IN EXCLUSIVE MODE`} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, `DELETE FROM message_mailbox x USING message m
			WHERE m.segment = ANY($1) AND x.received = m.received AND x.id = m.id`, segments); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `DELETE FROM message WHERE segment = ANY($1)`, segments)
		if err != nil {
			return err
		}
		n = tag.RowsAffected()
		if _, err = tx.Exec(ctx, `SELECT drop_empty_index_days()`); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `DELETE FROM segment WHERE name = ANY($1)`, segments)
		return err
	})
	return n, wrap("drop the archive index", err)
}

// ForgetCheckpoints lets the indexer read the given segments again, from
// their begin. What the index has of them stays.
func (s *Store) ForgetCheckpoints(ctx context.Context, segments []string) error {
	_, err := s.Pool.Exec(ctx, `DELETE FROM segment WHERE name = ANY($1)`, segments)
	return wrap("forget index checkpoints", err)
}

// ShippedSegments returns the segments that are whole in the bucket.
func (s *Store) ShippedSegments(ctx context.Context) (map[string]bool, error) {
	rows, err := s.Pool.Query(ctx, `SELECT name FROM segment_shipping WHERE verified_at IS NOT NULL AND removed_at IS NULL`)
	if err != nil {
		return nil, wrap("list shipped segments", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, wrap("list shipped segments", err)
	}
	out := make(map[string]bool, len(names))
	for _, n := range names {
		out[n] = true
	}
	return out, nil
}
