package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

var (
	messageColumns = []string{"id", "received", "direction", "sender", "recipients", "subject", "from_header", "to_header", "message_id",
		"size", "attachments", "client", "sasl_user", "queue_id", "segment", "seg_offset", "seg_length", "tsv"}
	mailboxColumns = []string{"received", "id", "mailbox", "domain"}
	insertMessage  = fmt.Sprintf("INSERT INTO message (%s) VALUES (%s) ON CONFLICT DO NOTHING", strings.Join(messageColumns, ", "), placeholders(len(messageColumns)))
	insertMailbox  = fmt.Sprintf("INSERT INTO message_mailbox (%s) VALUES (%s) ON CONFLICT DO NOTHING", strings.Join(mailboxColumns, ", "), placeholders(len(mailboxColumns)))
)

func placeholders(n int) string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("$%d", i+1)
	}
	return strings.Join(out, ", ")
}

// values are the message's, in the order of messageColumns.
func (m *IndexedMessage) values() []any {
	return []any{m.ID, m.Received, m.Direction, clean(m.Sender), cleanAll(m.Recipients), clean(m.Subject), clean(m.FromHeader), clean(m.ToHeader),
		clean(m.MessageID), m.Size, cleanAll(m.Attachments), clean(m.Client), clean(m.SASLUser), clean(m.QueueID), m.Segment, m.Offset, m.Length, m.words()}
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

// copyMessages adds messages none of which is there, by COPY.
func copyMessages(ctx context.Context, tx pgx.Tx, messages []IndexedMessage) error {
	if len(messages) == 0 {
		return nil
	}
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"message"}, messageColumns,
		pgx.CopyFromSlice(len(messages), func(i int) ([]any, error) { return messages[i].values(), nil }))
	if err != nil {
		return err
	}
	var rows [][]any
	for i := range messages {
		rows = append(rows, messages[i].mailboxValues()...)
	}
	_, err = tx.CopyFrom(ctx, pgx.Identifier{"message_mailbox"}, mailboxColumns, pgx.CopyFromRows(rows))
	return err
}

// queueMessage adds a message unless it is there.
func queueMessage(batch *pgx.Batch, m *IndexedMessage) {
	batch.Queue(insertMessage, m.values()...)
	for _, row := range m.mailboxValues() {
		batch.Queue(insertMailbox, row...)
	}
}

// queueMailboxes notes whose messages the segment has, and until when, for
// its expiry. Bytes of which that is not known are nobody's: mailbox ”.
func queueMailboxes(batch *pgx.Batch, b *IndexBatch) {
	newest := map[string]time.Time{}
	note := func(mailbox string, at time.Time) {
		if at.After(newest[mailbox]) {
			newest[mailbox] = at
		}
	}
	if b.Damaged > 0 || b.LeftOut {
		note("", time.Now())
	}
	for _, m := range b.Messages {
		if len(m.Mailboxes) == 0 {
			note("", m.Received)
		}
		for _, a := range m.Mailboxes {
			note(clean(a), m.Received)
		}
	}
	if len(newest) == 0 {
		return
	}
	names, domains, times := slices.Sorted(maps.Keys(newest)), []string(nil), []time.Time(nil)
	for _, n := range names {
		domains, times = append(domains, domainOf(n)), append(times, newest[n])
	}
	batch.Queue(`INSERT INTO segment_mailbox (segment, mailbox, domain, last)
		SELECT $1, * FROM unnest($2::text[], $3::text[], $4::timestamptz[])
		ON CONFLICT (segment, mailbox) DO UPDATE SET last = greatest(segment_mailbox.last, EXCLUDED.last)`, b.Segment, names, domains, times)
}
