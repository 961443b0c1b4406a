package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ErrData marks values that PostgreSQL refuses whatever the circumstances
// (SQLSTATE classes 22, data exception, and 54, program limit exceeded):
// trying again does not help, leaving the value out does.
var ErrData = errors.New("PostgreSQL refuses the data")

// Checkpoint is how far a segment of the archive log is in the index.
type Checkpoint struct {
	Segment string `db:"name" json:"segment"`
	Indexed int64  `db:"indexed" json:"indexed"` // bytes of the file that are in the index
	Sealed  bool   `db:"sealed" json:"sealed"`   // no more will come
	Damaged int64  `db:"damaged" json:"damaged"` // bytes skipped as unreadable
	Records int64  `db:"records" json:"records"`
}

// IndexBatch is what was read from a segment between two offsets.
type IndexBatch struct {
	Segment  string
	From, To int64 // bytes; From must be the segment's present checkpoint
	Sealed   bool  // To is the end of a sealed segment
	Damaged  int64 // bytes between From and To that could not be read
	LeftOut  bool  // there are records between From and To that no message stands for
	Messages []IndexedMessage
}

// IndexedMessage is one message as the index holds it. Text that is not valid
// UTF-8, or has NUL in it, is mended.
type IndexedMessage struct {
	ID         uuid.UUID
	Received   time.Time // of this day's partition, UTC
	Direction  string    // inbound, outbound, internal
	Sender     string    // envelope sender, "" is <>
	Recipients []string  // envelope recipients, Bcc among them
	Mailboxes  []string  // canonical addresses that may see it

	Subject, FromHeader, ToHeader, MessageID string
	Attachments                              []string // file names

	Size                      int64 // octets of the message
	Client, SASLUser, QueueID string

	Segment        string
	Offset, Length int64 // bytes, of the record in the segment

	// Text is what the words to search are taken from, beside the subject,
	// the addresses and the attachments' names.
	Text string
}

// SegmentOffsets returns the checkpoints of all segments by name.
func (s *Store) SegmentOffsets(ctx context.Context) (map[string]Checkpoint, error) {
	rows, err := s.Pool.Query(ctx, `SELECT name, indexed, sealed, damaged, records FROM segment`)
	if err != nil {
		return nil, wrap("read index checkpoints", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[Checkpoint])
	if err != nil {
		return nil, wrap("read index checkpoints", err)
	}
	out := make(map[string]Checkpoint, len(list))
	for _, c := range list {
		out[c.Segment] = c
	}
	return out, nil
}

// IndexBatch adds a batch to the index and moves the segment's checkpoint, all
// or nothing. A message that is there already stays as it is. ErrConflict says
// that the checkpoint is not at b.From: another indexer was here, or the index
// was dropped, and the caller must read the checkpoints anew. ErrData says
// that one of the messages cannot be stored as it is.
func (s *Store) IndexBatch(ctx context.Context, b IndexBatch) error {
	err := s.indexBatch(ctx, b, true)
	if isCode(err, "23514") { // no partition for a day: it is made when it is first missed
		if err = s.EnsurePartitions(ctx, receivedDays(b.Messages)...); err == nil {
			err = s.indexBatch(ctx, b, true)
		}
	}
	if isCode(err, "23505") { // some messages are there already
		err = s.indexBatch(ctx, b, false)
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) && (strings.HasPrefix(pg.Code, "22") || strings.HasPrefix(pg.Code, "54")) {
		return fmt.Errorf("index %s from %d: %w: %w", b.Segment, b.From, ErrData, err)
	}
	return wrap(fmt.Sprintf("index %s from %d", b.Segment, b.From), err)
}

// indexBatch writes a batch, the faster way if none of it is there yet.
func (s *Store) indexBatch(ctx context.Context, b IndexBatch, fresh bool) error {
	return s.tx(ctx, func(tx pgx.Tx) error {
		var at int64
		if _, err := tx.Exec(ctx, `INSERT INTO segment (name) VALUES ($1) ON CONFLICT DO NOTHING`, b.Segment); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, `SELECT indexed FROM segment WHERE name = $1 FOR UPDATE`, b.Segment).Scan(&at); err != nil {
			return err
		}
		if at != b.From {
			return fmt.Errorf("%w: the checkpoint is at %d", ErrConflict, at)
		}
		batch := &pgx.Batch{}
		if fresh {
			if err := copyMessages(ctx, tx, b.Messages); err != nil {
				return err
			}
		} else {
			for i := range b.Messages {
				queueMessage(batch, &b.Messages[i])
			}
		}
		queueMailboxes(batch, &b)
		batch.Queue(`UPDATE segment SET indexed = $2, sealed = $3, damaged = damaged + $4, records = records + $5, updated_at = now()
			WHERE name = $1`, b.Segment, b.To, b.Sealed, b.Damaged, len(b.Messages))
		return tx.SendBatch(ctx, batch).Close()
	})
}

// EnsurePartitions makes the index partitions of the given days (UTC) where
// they are missing.
func (s *Store) EnsurePartitions(ctx context.Context, days ...time.Time) error {
	for _, day := range days {
		if _, err := s.Pool.Exec(ctx, `SELECT ensure_message_partition($1::date)`, day.UTC().Format(time.DateOnly)); err != nil {
			return wrap("make index partition of "+day.UTC().Format(time.DateOnly), err)
		}
	}
	return nil
}

// receivedDays lists the UTC days on which messages were received.
func receivedDays(messages []IndexedMessage) []time.Time {
	seen := map[time.Time]bool{}
	var out []time.Time
	for _, m := range messages {
		day := m.Received.UTC().Truncate(24 * time.Hour)
		if !seen[day] {
			seen[day] = true
			out = append(out, day)
		}
	}
	return out
}
