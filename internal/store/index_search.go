package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Access says whose messages may be seen. It is put into each query: the
// zero Access sees nothing.
type Access struct {
	All     bool     // the operator
	Domains []string // a domain admin
	Mailbox string   // a mailbox owner: canonical address
}

// MessageFilter asks for messages of the index. Empty fields do not filter.
type MessageFilter struct {
	Access    Access
	Mailbox   string // only messages of this mailbox (within what Access allows)
	Text      string // words to find, in PostgreSQL's web search syntax, case and accents aside
	From      string // part of the envelope sender or From header
	To        string // part of the To or Cc header
	Subject   string // part of the subject
	Direction string
	After     time.Time // received at or after
	Before    time.Time // received before
	Cursor    Cursor    // of the page before; zero for the first
	Limit     int       // 1 to 500; 0 is 50
}

// Cursor marks the last message of a page; the next page begins after it.
type Cursor struct {
	Received time.Time
	ID       uuid.UUID
}

// MessageRow is a message as the index tells of it.
type MessageRow struct {
	ID          uuid.UUID `db:"id" json:"id"`
	Received    time.Time `db:"received" json:"received"`
	Direction   string    `db:"direction" json:"direction"`
	Sender      string    `db:"sender" json:"sender"`
	Recipients  []string  `db:"recipients" json:"recipients"` // those that the asker may know: never a Bcc of others
	Subject     string    `db:"subject" json:"subject"`
	FromHeader  string    `db:"from_header" json:"from"`
	ToHeader    string    `db:"to_header" json:"to"`
	MessageID   string    `db:"message_id" json:"message_id"`
	Size        int64     `db:"size" json:"size"`
	Attachments []string  `db:"attachments" json:"attachments"`
	Client      string    `db:"client" json:"client"`       // "" for a mailbox owner
	SASLUser    string    `db:"sasl_user" json:"sasl_user"` // "" for a mailbox owner
	QueueID     string    `db:"queue_id" json:"queue_id"`
	Segment     string    `db:"segment" json:"segment"`
	Offset      int64     `db:"seg_offset" json:"offset"`
	Length      int64     `db:"seg_length" json:"length"`
}

const (
	defaultPage = 50
	maxPage     = 500
)

// messageQuery collects conditions and their arguments.
type messageQuery struct {
	from  string
	where []string
	args  []any
}

// arg adds an argument and returns its placeholder.
func (q *messageQuery) arg(v any) string {
	q.args = append(q.args, v)
	return fmt.Sprintf("$%d", len(q.args))
}

func (q *messageQuery) and(format string, placeholders ...any) {
	q.where = append(q.where, fmt.Sprintf(format, placeholders...))
}

// access adds who may see, and returns the columns as they may be seen.
func (q *messageQuery) access(a Access) (columns string) {
	recipients, client, user := "m.recipients", "m.client", "m.sasl_user"
	q.from = " FROM message m"
	switch {
	case a.All:
	case len(a.Domains) > 0:
		d := q.arg(a.Domains)
		q.and("EXISTS (SELECT FROM message_mailbox x WHERE x.received = m.received AND x.id = m.id AND x.domain = ANY(%s))", d)
		// A sender's domain knows its recipients; others know their own.
		recipients = `ARRAY(SELECT r FROM unnest(m.recipients) r
			WHERE lower(split_part(m.sender, '@', -1)) = ANY(` + d + `) OR lower(split_part(r, '@', -1)) = ANY(` + d + `))`
	case a.Mailbox != "":
		// A join, so that the index by mailbox and time gives the order.
		q.from += " JOIN message_mailbox x ON x.received = m.received AND x.id = m.id"
		q.and("x.mailbox = %s", q.arg(a.Mailbox))
		recipients, client, user = "'{}'::text[]", "''", "''"
	default:
		q.and("false")
	}
	return "m.id, m.received, m.direction, m.sender, " + recipients + ` AS recipients, m.subject, m.from_header, m.to_header, m.message_id,
		m.size, m.attachments, ` + client + " AS client, " + user + ` AS sasl_user, m.queue_id, m.segment, m.seg_offset, m.seg_length`
}

// SearchMessages returns a page of messages, newest first, and the cursor of
// the next page, nil when this was the last. Who may see what is decided by
// the query.
func (s *Store) SearchMessages(ctx context.Context, f MessageFilter) ([]MessageRow, *Cursor, error) {
	q := &messageQuery{}
	columns := q.access(f.Access)
	f.conditions(q)
	limit := f.Limit
	if limit <= 0 {
		limit = defaultPage
	}
	limit = min(limit, maxPage)
	sql := "SELECT " + columns + q.from
	if len(q.where) > 0 {
		sql += " WHERE " + strings.Join(q.where, " AND ")
	}
	sql += " ORDER BY m.received DESC, m.id DESC LIMIT " + q.arg(limit+1)
	rows, err := s.Pool.Query(ctx, sql, q.args...)
	if err != nil {
		return nil, nil, wrap("search messages", err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByName[MessageRow])
	if err != nil {
		return nil, nil, wrap("search messages", err)
	}
	if len(out) <= limit {
		return out, nil, nil
	}
	out = out[:limit]
	last := out[limit-1]
	return out, &Cursor{Received: last.Received, ID: last.ID}, nil
}

func (f *MessageFilter) conditions(q *messageQuery) {
	if f.Mailbox != "" {
		q.and("EXISTS (SELECT FROM message_mailbox y WHERE y.received = m.received AND y.id = m.id AND y.mailbox = %s)", q.arg(f.Mailbox))
	}
	if f.Text != "" {
		q.and("m.tsv @@ websearch_to_tsquery('simple', %s)", q.arg(fold(clean(f.Text))))
	}
	if f.From != "" {
		p := q.arg(likePattern(f.From))
		q.and("(m.sender ILIKE %s OR m.from_header ILIKE %s)", p, p)
	}
	if f.To != "" {
		q.and("m.to_header ILIKE %s", q.arg(likePattern(f.To)))
	}
	if f.Subject != "" {
		q.and("m.subject ILIKE %s", q.arg(likePattern(f.Subject)))
	}
	if f.Direction != "" {
		q.and("m.direction = %s", q.arg(f.Direction))
	}
	if !f.After.IsZero() {
		q.and("m.received >= %s", q.arg(f.After))
	}
	if !f.Before.IsZero() {
		q.and("m.received < %s", q.arg(f.Before))
	}
	if !f.Cursor.Received.IsZero() {
		q.and("(m.received, m.id) < (%s, %s)", q.arg(f.Cursor.Received), q.arg(f.Cursor.ID))
	}
}

// Message returns one message, or ErrNotFound when there is none that the
// asker may see.
func (s *Store) Message(ctx context.Context, access Access, id uuid.UUID) (*MessageRow, error) {
	q := &messageQuery{}
	columns := q.access(access)
	q.and("m.id = %s", q.arg(id))
	rows, err := s.Pool.Query(ctx, "SELECT "+columns+q.from+" WHERE "+strings.Join(q.where, " AND ")+" LIMIT 1", q.args...)
	if err != nil {
		return nil, wrap("read message "+id.String(), err)
	}
	m, err := pgx.CollectExactlyOneRow(rows, pgx.RowToAddrOfStructByName[MessageRow])
	return m, wrap("read message "+id.String(), err)
}

// likePattern is a LIKE pattern that finds s anywhere, taken literally.
func likePattern(s string) string {
	return "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(s) + "%"
}
