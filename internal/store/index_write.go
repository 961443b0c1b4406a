package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// The postings of a batch go to their day's table when it has some messages,
// or words. Those of a smaller one wait in posting_recent, which each search
// looks into too, until there are enough of them.
const (
	ownMessages = 200
	ownWords    = 20_000
	recentLimit = 1000 // messages of a day
)

var (
	messageColumns = []string{"id", "received", "ord", "direction", "sender", "recipients", "subject", "from_header", "to_header", "cc_header", "message_id",
		"size", "attachments", "route", "client", "sasl_user", "queue_id", "segment", "seg_offset", "seg_length"}
	mailboxColumns = []string{"received", "id", "mailbox", "domain"}
)

var errNoDay = errors.New("the index has no such day")

// IndexBatch adds a batch to the index and moves the segment's checkpoint, all
// or nothing. A message that is there already keeps its row, and gets what it
// lacks of mailboxes and postings. ErrConflict says that the checkpoint is not
// at b.From: another indexer was here, or the index was dropped, and the caller
// must read the checkpoints anew. ErrData says that one of the messages cannot
// be stored as it is.
func (s *Store) IndexBatch(ctx context.Context, b IndexBatch) error {
	days := byDay(b.Messages)
	for _, d := range days {
		d.post()
	}
	err := s.indexBatch(ctx, &b, days)
	for range 2 {
		switch {
		case errors.Is(err, errNoDay): // made when it is first missed
			if err = s.EnsurePartitions(ctx, dates(days)...); err == nil {
				err = s.indexBatch(ctx, &b, days)
			}
		case isCode(err, "23505"): // some messages are there already
			for _, d := range days {
				d.again = true
			}
			err = s.indexBatch(ctx, &b, days)
		}
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) && (strings.HasPrefix(pg.Code, "22") || strings.HasPrefix(pg.Code, "54")) {
		return fmt.Errorf("index %s from %d: %w: %w", b.Segment, b.From, ErrData, err)
	}
	return wrap(fmt.Sprintf("index %s from %d", b.Segment, b.From), err)
}

// patiently is for transactions in which posting lists are made, between
// statements: of hostile mail on a busy machine that takes long too.
const patiently = `SELECT set_config('idle_in_transaction_session_timeout', '5min', true)`

// indexBatch writes a batch.
func (s *Store) indexBatch(ctx context.Context, b *IndexBatch, days []*dayBatch) error {
	return s.tx(ctx, func(tx pgx.Tx) error {
		begin := &pgx.Batch{}
		// The checkpoint is part of what a crash may lose: it is then read again.
		begin.Queue(`SET LOCAL synchronous_commit = off`)
		begin.Queue(`SET LOCAL statement_timeout = 0`) // ctx bounds the whole; a COPY of hostile mail on a slow machine takes long
		begin.Queue(patiently)
		begin.Queue(`INSERT INTO segment (name) VALUES ($1) ON CONFLICT DO NOTHING`, b.Segment)
		var at int64
		begin.Queue(`SELECT indexed FROM segment WHERE name = $1 FOR UPDATE`, b.Segment).QueryRow(func(row pgx.Row) error { return row.Scan(&at) })
		if err := tx.SendBatch(ctx, begin).Close(); err != nil {
			return err
		}
		if at != b.From {
			return fmt.Errorf("%w: the checkpoint is at %d", ErrConflict, at)
		}
		for _, d := range days {
			if d.again {
				var err error
				if d, err = d.mend(ctx, tx); err != nil {
					return err
				}
			}
			if err := d.write(ctx, tx); err != nil {
				return err
			}
		}
		end := &pgx.Batch{}
		queueMailboxes(end, b)
		end.Queue(`UPDATE segment SET indexed = $2, sealed = $3, damaged = damaged + $4, records = records + $5, updated_at = now(),
			host = coalesce(nullif($6, ''), host) WHERE name = $1`, b.Segment, b.To, b.Sealed, b.Damaged, len(b.Messages), b.Host)
		return tx.SendBatch(ctx, end).Close()
	})
}

// write adds the messages of a day, by COPY.
func (d *dayBatch) write(ctx context.Context, tx pgx.Tx) error {
	n := len(d.messages)
	if n == 0 {
		return nil
	}
	oldest, newest := d.messages[0].key().Received, d.messages[n-1].key().Received
	own := n >= ownMessages || d.postings.words >= ownWords
	var base, recent int32
	err := tx.QueryRow(ctx, `UPDATE index_day SET next = next + $2, newest = greatest(newest, $4), added_at = now(),
		slack = greatest(slack, CASE WHEN newest > $3 THEN extract(epoch FROM newest - $3) * 1000000 ELSE 0 END),
		batches = batches + CASE WHEN $5 THEN 1 ELSE 0 END, recent = recent + CASE WHEN $5 THEN 0 ELSE $2 END
		WHERE day = $1 RETURNING next - $2, recent`, d.day, n, oldest, newest, own).Scan(&base, &recent)
	if errors.Is(err, pgx.ErrNoRows) {
		return errNoDay
	}
	if err != nil {
		return err
	}
	_, err = tx.CopyFrom(ctx, pgx.Identifier{"message"}, messageColumns, pgx.CopyFromSlice(n, func(i int) ([]any, error) {
		return d.messages[i].values(base + int32(i)), nil
	}))
	if err != nil {
		return err
	}
	if err := d.writeMailboxes(ctx, tx); err != nil {
		return err
	}
	if own {
		return d.writeOwn(ctx, tx, d.postings.encode(base, base, nil))
	}
	date := int32(d.day.Sub(postgresEpoch) / (24 * time.Hour))
	if err := copyRows(ctx, tx, "posting_recent (day, word, field, batch, docs, pos)", d.postings.encode(base, base, &date)); err != nil || recent < recentLimit {
		return err
	}
	return moveRecent(ctx, tx, d.day)
}

// writeOwn adds postings to the day's own table.
func (d *dayBatch) writeOwn(ctx context.Context, tx pgx.Tx, rows []byte) error {
	return copyRows(ctx, tx, "posting"+d.suffix()+" (word, field, batch, docs, pos)", rows)
}

// moveRecent moves a day's postings from posting_recent to its own table.
func moveRecent(ctx context.Context, tx pgx.Tx, day time.Time) error {
	move := &pgx.Batch{}
	move.Queue(`INSERT INTO posting_`+day.Format("20060102")+` SELECT word, field, min(batch), string_agg(docs, '' ORDER BY batch), string_agg(pos, '' ORDER BY batch)
		FROM posting_recent WHERE day = $1 GROUP BY word, field ORDER BY word, field`, day)
	move.Queue(`DELETE FROM posting_recent WHERE day = $1`, day)
	move.Queue(`UPDATE index_day SET recent = 0, batches = batches + 1 WHERE day = $1`, day)
	return tx.SendBatch(ctx, move).Close()
}

// writeMailboxes adds who may see the messages.
func (d *dayBatch) writeMailboxes(ctx context.Context, tx pgx.Tx) error {
	var rows [][]any
	for _, m := range d.messages {
		rows = append(rows, m.mailboxValues()...)
	}
	if !d.again {
		_, err := tx.CopyFrom(ctx, pgx.Identifier{"message_mailbox"}, mailboxColumns, pgx.CopyFromRows(rows))
		return err
	}
	batch := &pgx.Batch{}
	for _, r := range rows {
		batch.Queue(`INSERT INTO message_mailbox (received, id, mailbox, domain) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`, r...)
	}
	return tx.SendBatch(ctx, batch).Close()
}

var postgresEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func copyRows(ctx context.Context, tx pgx.Tx, table string, data []byte) error {
	_, err := tx.Conn().PgConn().CopyFrom(ctx, io.Reader(bytes.NewReader(data)), "COPY "+table+" FROM STDIN (FORMAT binary)")
	return err
}

// values are the message's, in the order of messageColumns.
func (m *IndexedMessage) values(ord int32) []any {
	return []any{m.ID, m.Received, ord, m.Direction, clean(m.Sender), cleanAll(m.Recipients), clean(m.Subject), clean(m.FromHeader), clean(m.ToHeader), clean(m.CcHeader),
		clean(m.MessageID), m.Size, cleanAll(m.Attachments), cleanAll(m.Route), clean(m.Client), clean(m.SASLUser), clean(m.QueueID), m.Segment, m.Offset, m.Length}
}

// mailboxValues are one row for each of its mailboxes.
func (m *IndexedMessage) mailboxValues() (out [][]any) {
	for i, a := range m.Mailboxes {
		if a = clean(a); !slices.Contains(m.Mailboxes[:i], a) {
			out = append(out, []any{m.Received, m.ID, a, domainOf(a)})
		}
	}
	return out
}
