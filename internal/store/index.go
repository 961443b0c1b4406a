package store

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
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
	Host    string `db:"host" json:"host"` // the gateway that had it when it was indexed; "" is not known
}

// IndexBatch is what was read from a segment between two offsets.
type IndexBatch struct {
	Segment  string
	From, To int64  // bytes; From must be the segment's present checkpoint
	Sealed   bool   // To is the end of a sealed segment
	Damaged  int64  // bytes between From and To that could not be read
	LeftOut  bool   // there are records between From and To that no message stands for
	Host     string // the gateway that has the segment; "" says nothing new
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

	Subject, FromHeader, ToHeader, CcHeader, MessageID string

	Attachments []string // file names
	Route       []string // archive.Routes: where it went on its arrival

	Size                      int64 // octets of the message
	Client, SASLUser, QueueID string

	Segment        string
	Offset, Length int64 // bytes, of the record in the segment

	// Text is what the words to search are taken from, beside the subject,
	// the addresses and the attachments' names.
	Text string
}

// SegmentOffsets returns the checkpoints of all segments by name. One that has
// expired, but may still lie somewhere, is sealed with nothing in it.
func (s *Store) SegmentOffsets(ctx context.Context) (map[string]Checkpoint, error) {
	rows, err := s.Pool.Query(ctx, `SELECT name, indexed, sealed, damaged, records, host FROM segment
		UNION ALL SELECT name, 0, true, 0, 0, '' FROM segment_shipping x WHERE removed_at IS NOT NULL AND NOT EXISTS (SELECT FROM segment s WHERE s.name = x.name)`)
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

// EnsurePartitions makes the index tables of the given days (UTC) where they
// are missing.
func (s *Store) EnsurePartitions(ctx context.Context, days ...time.Time) error {
	for _, day := range days {
		if _, err := s.Pool.Exec(ctx, `SELECT ensure_message_partition($1::date)`, day.UTC().Format(time.DateOnly)); err != nil {
			return wrap("make index partition of "+day.UTC().Format(time.DateOnly), err)
		}
	}
	return nil
}

// TidyIndex puts the postings of one day that is over, and that nothing was
// added to for some time, into one piece, which is smaller and quicker to
// search. It reports whether there was such a day.
func (s *Store) TidyIndex(ctx context.Context, untouched time.Duration) (done bool, err error) {
	err = s.tx(ctx, func(tx pgx.Tx) error {
		var day time.Time
		err := tx.QueryRow(ctx, `SELECT day FROM index_day WHERE (batches > 1 OR recent > 0) AND day < (now() AT TIME ZONE 'UTC')::date
			AND added_at <= now() - $1 * interval '1 microsecond' ORDER BY day LIMIT 1`, untouched.Microseconds()).Scan(&day)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err == nil {
			_, err = tx.Exec(ctx, `SET LOCAL statement_timeout = 0`)
		}
		if err == nil {
			_, err = tx.Exec(ctx, `SELECT compact_index_day($1)`, day)
		}
		done = err == nil
		return err
	})
	if isCode(err, "55P03") { // somebody uses the day: another time
		return false, nil
	}
	return done && err == nil, wrap("tidy the archive index", err)
}
