package store

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Action is what somebody did with somebody else's mail, or how long it is kept.
type Action string

// The actions of the audit.
const (
	ActionView      Action = "view"     // opened the message
	ActionSource    Action = "source"   // looked at its source
	ActionDownload  Action = "download" // took it, or a file in it
	ActionRedeliver Action = "redeliver"
	ActionExport    Action = "export"    // took many
	ActionRetention Action = "retention" // changed how long the domain's are kept
)

// AuditEntry is one line of the audit.
type AuditEntry struct {
	ID      int64     `db:"id" json:"-"`
	At      time.Time `db:"at" json:"at"`
	Actor   string    `db:"actor" json:"actor"`
	Action  Action    `db:"action" json:"action"`
	Message uuid.UUID `db:"message" json:"message"` // zero: it is not about one message
	Mailbox string    `db:"mailbox" json:"mailbox"` // whose mail it is; "" is all of the domain
	Domain  string    `db:"domain" json:"-"`
	Detail  string    `db:"detail" json:"detail"`
}

// RecordLook notes in the audit that an actor did something with a message: a
// line for each mailbox within access that has it, unless the same was noted
// less than a minute ago.
func (s *Store) RecordLook(ctx context.Context, actor string, action Action, access Access, m *MessageRow, detail string) error {
	// Not prepared: PostgreSQL then plans for this time alone, and locks this day's tables, not those of all days.
	_, err := s.Pool.Exec(ctx, `INSERT INTO audit (actor, action, message, mailbox, domain, detail)
		SELECT $1, $2, x.id, x.mailbox, x.domain, $3 FROM message_mailbox x
		WHERE x.received = $4 AND x.id = $5 AND ($6 OR x.domain = ANY ($7))
			AND NOT EXISTS (SELECT FROM audit a WHERE a.message = x.id AND a.mailbox = x.mailbox AND a.actor = $1 AND a.action = $2
				AND a.detail = $3 AND a.at > now() - interval '1 minute')`,
		pgx.QueryExecModeDescribeExec, actor, action, clean(detail), m.Received, m.ID, access.All, append([]string{}, access.Domains...))
	return wrap("record in the audit", err)
}

// RecordExport notes in the audits of domains that an actor takes messages of
// them, or of one mailbox.
func (s *Store) RecordExport(ctx context.Context, actor, mailbox string, domains []string, detail string) error {
	return wrap("record in the audit", recordDomains(ctx, s.Pool, actor, ActionExport, mailbox, domains, detail))
}

type execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// recordDomains notes what is not about one message.
func recordDomains(ctx context.Context, db execer, actor string, action Action, mailbox string, domains []string, detail string) error {
	_, err := db.Exec(ctx, `INSERT INTO audit (actor, action, message, mailbox, domain, detail) SELECT $1, $2, $3, $4, d, $6 FROM unnest($5::text[]) d`,
		actor, action, uuid.Nil, mailbox, domains, clean(detail))
	return err
}

// MessageDomains are the domains that have any of some messages.
func (s *Store) MessageDomains(ctx context.Context, messages []MessageRow) ([]string, error) {
	if len(messages) == 0 {
		return nil, nil
	}
	ids, times := make([]uuid.UUID, len(messages)), make([]time.Time, len(messages))
	for i, m := range messages {
		ids[i], times[i] = m.ID, m.Received
	}
	// Not prepared, and with bounds: see RecordLook.
	rows, err := s.Pool.Query(ctx, `SELECT DISTINCT x.domain FROM unnest($1::uuid[], $2::timestamptz[]) AS m (id, received)
		JOIN message_mailbox x ON x.received = m.received AND x.id = m.id WHERE x.received BETWEEN $3 AND $4 ORDER BY 1`,
		pgx.QueryExecModeDescribeExec, ids, times, slices.MinFunc(times, time.Time.Compare), slices.MaxFunc(times, time.Time.Compare))
	if err != nil {
		return nil, wrap("read whose messages these are", err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return out, wrap("read whose messages these are", err)
}

// ArchivedDomains are all domains that were ever registered.
func (s *Store) ArchivedDomains(ctx context.Context) ([]string, error) {
	rows, err := s.Pool.Query(ctx, `SELECT domain FROM retention ORDER BY domain`)
	if err != nil {
		return nil, wrap("list domains of the archive", err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return out, wrap("list domains of the archive", err)
}

// Audit returns lines of a domain, newest first; before is the ID of the last
// line of the page before, 0 for the first page.
func (s *Store) Audit(ctx context.Context, domain string, before int64, limit int) ([]AuditEntry, error) {
	rows, err := s.Pool.Query(ctx, `SELECT * FROM audit WHERE domain = $1 AND ($2 = 0 OR id < $2) ORDER BY id DESC LIMIT $3`, domain, before, limit)
	if err != nil {
		return nil, wrap("read audit", err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByName[AuditEntry])
	return out, wrap("read audit", err)
}
