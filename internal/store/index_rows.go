package store

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"understudy/internal/query"
)

// visible gives the columns of message m as who asks may see them, and the
// condition under which the row may be seen at all: a mailbox that the asker
// stands for has it, and it has not expired for that mailbox.
// OFFSET 0 keeps the planner from joining what is to be looked up row by row.
func (c *conditions) visible() (columns, where string) {
	recipients, client, user := "m.recipients", "m.client", "m.sasl_user"
	box := "EXISTS (SELECT FROM message_mailbox x WHERE x.received = m.received AND x.id = m.id"
	a := c.access
	now := c.arg(c.now)
	needed := " AND archive_needed(x.mailbox, x.domain, x.received, " + now + ") OFFSET 0)"
	switch {
	case a.All:
		where = "(" + box + needed + " OR NOT " + box + ") AND archive_needed('', '', m.received, " + now + "))"
	case len(a.Domains) > 0:
		d := c.arg(a.Domains)
		where = box + " AND x.domain = ANY(" + d + ")" + needed
		// A sender's domain knows its recipients; others know their own.
		recipients = `ARRAY(SELECT r FROM unnest(m.recipients) r
			WHERE lower(split_part(m.sender, '@', -1)) = ANY(` + d + `) OR lower(split_part(r, '@', -1)) = ANY(` + d + `))`
	default: // of the mailbox "" there is nothing
		where = box + " AND x.mailbox = " + c.arg(a.Mailbox) + needed
		recipients, client, user = "'{}'::text[]", "''", "''"
	}
	return "m.id, m.received, m.direction, m.sender, " + recipients + ` AS recipients, m.subject, m.from_header, m.to_header, m.message_id,
		m.size, m.attachments, ` + client + " AS client, " + user + ` AS sasl_user, m.queue_id, m.segment, m.seg_offset, m.seg_length`, where
}

// visibleRows reads those of some messages that may be seen, newest first.
func visibleRows(ctx context.Context, tx pgx.Tx, access Access, now time.Time, keys []key) ([]MessageRow, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	c := &conditions{access: access, now: now}
	times, ids := make([]time.Time, len(keys)), make([]uuid.UUID, len(keys))
	for i, k := range keys {
		times[i], ids[i] = k.Received, k.ID
	}
	if err := planner(ctx, tx, "on", "force_generic_plan"); err != nil {
		return nil, err
	}
	columns, where := c.visible()
	rows, err := tx.Query(ctx, "SELECT "+columns+" FROM unnest("+c.arg(times)+"::timestamptz[], "+c.arg(ids)+`::uuid[]) AS k (received, id)
		CROSS JOIN LATERAL (SELECT * FROM message m WHERE m.received = k.received AND m.id = k.id OFFSET 0) m
		WHERE `+where+" ORDER BY m.received DESC, m.id DESC", c.args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByName[MessageRow])
}

// Message returns one message, or ErrNotFound when there is none that the
// asker may see.
func (s *Store) Message(ctx context.Context, access Access, id uuid.UUID) (*MessageRow, error) {
	c := &conditions{access: access, now: s.now()}
	columns, where := c.visible()
	rows, err := s.Pool.Query(ctx, "SELECT "+columns+" FROM message m WHERE m.id = "+c.arg(id)+" AND "+where+" LIMIT 1", c.args...)
	if err != nil {
		return nil, wrap("read message "+id.String(), err)
	}
	m, err := pgx.CollectExactlyOneRow(rows, pgx.RowToAddrOfStructByName[MessageRow])
	return m, wrap("read message "+id.String(), err)
}

// root is all of the filter that is a query.
func (f *MessageFilter) root() query.Node {
	var all query.And
	if f.Query != nil && f.Query.Root != nil {
		all = append(all, f.Query.Root)
	}
	if f.Mailbox != "" {
		all = append(all, query.Mailbox(f.Mailbox))
	}
	if f.Direction != "" {
		all = append(all, query.Direction(f.Direction))
	}
	return all
}
