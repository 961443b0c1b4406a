package store

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Action is what somebody did with somebody else's mail.
type Action string

// The actions of the audit.
const (
	ActionView      Action = "view"     // opened the message
	ActionSource    Action = "source"   // looked at its source
	ActionDownload  Action = "download" // took it, or a file in it
	ActionRedeliver Action = "redeliver"
)

// AuditEntry is one line of the audit.
type AuditEntry struct {
	ID      int64     `db:"id" json:"-"`
	At      time.Time `db:"at" json:"at"`
	Actor   string    `db:"actor" json:"actor"`
	Action  Action    `db:"action" json:"action"`
	Message uuid.UUID `db:"message" json:"message"`
	Mailbox string    `db:"mailbox" json:"mailbox"` // whose mail it is
	Domain  string    `db:"domain" json:"-"`
	Detail  string    `db:"detail" json:"detail"`
}

// RecordLook notes in the audit that an actor did something with a message: a
// line for each mailbox within access that has it, unless the same was noted
// less than a minute ago.
func (s *Store) RecordLook(ctx context.Context, actor string, action Action, access Access, m *MessageRow, detail string) error {
	_, err := s.Pool.Exec(ctx, `INSERT INTO audit (actor, action, message, mailbox, domain, detail)
		SELECT $1, $2, x.id, x.mailbox, x.domain, $3 FROM message_mailbox x
		WHERE x.received = $4 AND x.id = $5 AND ($6 OR x.domain = ANY ($7))
			AND NOT EXISTS (SELECT FROM audit a WHERE a.message = x.id AND a.mailbox = x.mailbox AND a.actor = $1 AND a.action = $2
				AND a.detail = $3 AND a.at > now() - interval '1 minute')`,
		actor, action, clean(detail), m.Received, m.ID, access.All, append([]string{}, access.Domains...))
	return wrap("record in the audit", err)
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
