package store

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// Expiry follows one rule, the SQL function archive_needed: a mailbox's message
// is needed while it is younger than the retention of the mailbox's domain,
// or while the mailbox or the domain is held. A search shows it as long as it
// is needed. It is kept, by archive_kept, while it is needed or was needed by
// the domain's longer retention of the last week; a day's partition and a
// segment go when nothing in them is kept, by the database server's clock if
// the caller's is ahead of it.

// OldDays lists the days (UTC) of the index that may have expired, oldest
// first: all that ended more than a day before at.
func (s *Store) OldDays(ctx context.Context, at time.Time) ([]time.Time, error) {
	// MATERIALIZED: or the planner may ask every table of the database for the day in its name.
	rows, err := s.Pool.Query(ctx, `WITH x AS MATERIALIZED (SELECT to_date(right(c.relname, 8), 'YYYYMMDD') AS day
		FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'message'::regclass)
		SELECT day FROM x WHERE (day + 2)::timestamp AT TIME ZONE 'UTC' <= $1 ORDER BY day`, at)
	if err != nil {
		return nil, wrap("list index partitions", err)
	}
	days, err := pgx.CollectRows(rows, pgx.RowTo[time.Time])
	return days, wrap("list index partitions", err)
}

// DropExpiredDay drops the index of a day if none of its messages is kept at
// that time, and reports whether it did. It does not wait long for locks, and
// not at all for another worker that does the same.
func (s *Store) DropExpiredDay(ctx context.Context, day, at time.Time) (dropped bool, err error) {
	err = s.tx(ctx, func(tx pgx.Tx) error {
		var mine bool
		if err := tx.QueryRow(ctx, `SELECT pg_try_advisory_xact_lock(7526843, 5)`).Scan(&mine); err != nil || !mine {
			return err
		}
		return tx.QueryRow(ctx, `SELECT drop_expired_partition($1::date, $2)`, day.Format(time.DateOnly), at).Scan(&dropped)
	})
	return dropped && err == nil, wrap("drop index partition of "+day.Format(time.DateOnly), err)
}

// expired is true of segments s of which nothing is kept at $1 (at most now),
// and which are whole in the index, so that this is known.
const expired = `s.sealed AND EXISTS (SELECT FROM segment_mailbox x WHERE x.segment = s.name)
	AND NOT EXISTS (SELECT FROM segment_mailbox x WHERE x.segment = s.name AND archive_kept(x.mailbox, x.domain, x.last, least($1::timestamptz, now())))`

// ExpiredSegments lists the segments of which nothing is kept at that time,
// oldest first.
func (s *Store) ExpiredSegments(ctx context.Context, at time.Time) ([]Checkpoint, error) {
	rows, err := s.Pool.Query(ctx, `SELECT name, indexed, sealed, damaged, records, host FROM segment s WHERE `+expired+` ORDER BY name`, at)
	if err != nil {
		return nil, wrap("list expired segments", err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByName[Checkpoint])
	return out, wrap("list expired segments", err)
}

// ExpireSegment has a segment removed if still nothing of it is kept at that
// time; nobody can put it on hold, or keep its domains longer, meanwhile. It
// will never be shipped, and what the bucket has of it is deleted by the next
// run of the shipping job. ExpireSegment reports whether it was removed. With
// an error of remove nothing has happened: the segment is tried again.
func (s *Store) ExpireSegment(ctx context.Context, name string, at time.Time, remove func() error) (removed bool, err error) {
	err = s.tx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `LOCK TABLE legal_hold, retention IN SHARE MODE`); err != nil {
			return err
		}
		err := tx.QueryRow(ctx, `SELECT `+expired+` FROM segment s WHERE s.name = $2 FOR UPDATE`, at, name).Scan(&removed)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil // removed already
		}
		if err != nil || !removed {
			return err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO segment_shipping (name, removed_at) VALUES ($1, now())
			ON CONFLICT (name) DO UPDATE SET removed_at = coalesce(segment_shipping.removed_at, now())`, name); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM segment WHERE name = $1`, name); err != nil {
			return err
		}
		return remove() // last: when the commit is lost, the file alone is gone, and the next run goes on
	})
	if err != nil {
		removed = false
	}
	return removed, wrap("expire segment "+name, err)
}

// Needed says of messages, each of a mailbox and received at a time, whether
// they are needed at a moment. Mailbox "" is nobody's.
func (s *Store) Needed(ctx context.Context, at time.Time, mailboxes []string, received []time.Time) ([]bool, error) {
	return s.judge(ctx, "archive_needed", at, mailboxes, received)
}

// Kept is Needed for what must not have been removed at that moment.
func (s *Store) Kept(ctx context.Context, at time.Time, mailboxes []string, received []time.Time) ([]bool, error) {
	return s.judge(ctx, "archive_kept", at, mailboxes, received)
}

func (s *Store) judge(ctx context.Context, rule string, at time.Time, mailboxes []string, received []time.Time) ([]bool, error) {
	domains := make([]string, len(mailboxes))
	for i, m := range mailboxes {
		if m != "" {
			domains[i] = domainOf(m)
		}
	}
	rows, err := s.Pool.Query(ctx, `SELECT `+rule+`(x.mailbox, x.domain, x.received, $4)
		FROM unnest($1::text[], $2::text[], $3::timestamptz[]) WITH ORDINALITY AS x (mailbox, domain, received, n) ORDER BY n`, cleanAll(mailboxes), domains, received, at)
	if err != nil {
		return nil, wrap("ask what is expired", err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowTo[bool])
	return out, wrap("ask what is expired", err)
}
