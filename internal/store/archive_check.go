package store

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// RecordRow is where a message of the index lies in the archive log.
type RecordRow struct {
	ID        uuid.UUID
	Segment   string
	Offset    int64
	Length    int64
	Mailboxes int // that may see it
	Digest    Digest
	Kept      bool // else its segment may be gone by right, while its day is kept for others
}

// EachRecordRow calls f for every message of the index, day by day. It may
// take long: some seconds for a million messages.
func (s *Store) EachRecordRow(ctx context.Context, f func(RecordRow) error) error {
	return wrap("read the archive index", s.eachDay(ctx, func(tx pgx.Tx, suffix string) error {
		rows, err := tx.Query(ctx, `SELECT m.id, m.segment, m.seg_offset, m.seg_length, m.received, m.direction, m.sender, m.recipients, m.size, coalesce(x.mailboxes, '{}'), coalesce(x.kept, archive_kept('', '', m.received, now()))
			FROM message`+suffix+` m LEFT JOIN (SELECT received, id, array_agg(mailbox || ' ' || domain) AS mailboxes,
				bool_or(received > (SELECT now() - make_interval(hours => 24 * least(3650, min(days))) FROM retention) OR archive_kept(mailbox, domain, received, now())) AS kept
				FROM message_mailbox`+suffix+` GROUP BY received, id) x ON x.received = m.received AND x.id = m.id`)
		if err != nil {
			return err
		}
		var r RecordRow
		var m IndexedMessage
		_, err = pgx.ForEachRow(rows, []any{&r.ID, &r.Segment, &r.Offset, &r.Length, &m.Received, &m.Direction, &m.Sender, &m.Recipients, &m.Size, &m.Mailboxes, &r.Kept}, func() error {
			r.Mailboxes, r.Digest = len(m.Mailboxes), m.digest(m.Mailboxes)
			return f(r)
		})
		return err
	}))
}

// RowSegments are the segments that messages of the index are said to be in.
func (s *Store) RowSegments(ctx context.Context) (map[string]bool, error) {
	out := map[string]bool{}
	err := s.eachDay(ctx, func(tx pgx.Tx, suffix string) error {
		rows, err := tx.Query(ctx, `SELECT DISTINCT segment FROM message`+suffix)
		if err != nil {
			return err
		}
		var name string
		_, err = pgx.ForEachRow(rows, []any{&name}, func() error { out[name] = true; return nil })
		return err
	})
	return out, wrap("read the archive index", err)
}

// eachDay calls f for each day of the index, newest first, in a transaction of
// its own without a limit of time. One that is dropped meanwhile is left out.
func (s *Store) eachDay(ctx context.Context, f func(tx pgx.Tx, suffix string) error) error {
	days, err := s.indexDays(ctx)
	if err != nil {
		return err
	}
	for _, day := range days {
		err := s.tx(ctx, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `SET LOCAL statement_timeout = 0`); err != nil {
				return err
			}
			return f(tx, day.Format("_20060102"))
		})
		if err != nil && !isCode(err, "42P01") { // undefined_table
			return err
		}
	}
	return nil
}

// KnownMessages returns those of the ids that the index has.
func (s *Store) KnownMessages(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]bool, error) {
	var places map[uuid.UUID]place
	err := s.again(func() (err error) {
		places, err = s.places(ctx, ids)
		return err
	})
	if err != nil {
		return nil, wrap("look up messages", err)
	}
	out := make(map[uuid.UUID]bool, len(places))
	for id := range places {
		out[id] = true
	}
	return out, nil
}

// DropIndex removes the messages of the given segments from the index, and
// how far they are indexed, so that the indexer builds them anew. It returns
// how many messages it removed. Indexers wait meanwhile.
func (s *Store) DropIndex(ctx context.Context, segments []string) (n int64, err error) {
	err = s.again(func() error {
		return s.tx(ctx, func(tx pgx.Tx) (err error) {
			n, err = dropIndex(ctx, tx, segments)
			return err
		})
	})
	return n, wrap("drop the archive index", err)
}

func dropIndex(ctx context.Context, tx pgx.Tx, segments []string) (int64, error) {
	// Without the lock an indexer could write rows between the statements
	// whose checkpoint stays.
	for _, sql := range []string{`SET LOCAL statement_timeout = 0`, `LOCK TABLE segment IN EXCLUSIVE MODE`} {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return 0, err
		}
	}
	if _, err := tx.Exec(ctx, `DELETE FROM message_mailbox x USING message m
		WHERE m.segment = ANY($1) AND x.received = m.received AND x.id = m.id`, segments); err != nil {
		return 0, err
	}
	tag, err := tx.Exec(ctx, `DELETE FROM message WHERE segment = ANY($1)`, segments)
	if err != nil {
		return 0, err
	}
	if _, err := tx.Exec(ctx, `SELECT drop_empty_index_days()`); err != nil {
		return 0, err
	}
	_, err = tx.Exec(ctx, `DELETE FROM segment WHERE name = ANY($1)`, segments)
	return tag.RowsAffected(), err
}

// ForgetCheckpoints lets the indexer read the given segments again, from
// their begin. What the index has of them stays.
func (s *Store) ForgetCheckpoints(ctx context.Context, segments []string) error {
	_, err := s.Pool.Exec(ctx, `DELETE FROM segment WHERE name = ANY($1)`, segments)
	return wrap("forget index checkpoints", err)
}
