package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"understudy/internal/job"
)

// RedeliveryState is how far a redelivery has come.
//
//	collecting ──▶ sending ──▶ done
//
// It begins with collecting when it is for all that a search finds.
type RedeliveryState string

// The states of a redelivery.
const (
	RedeliveryCollecting RedeliveryState = "collecting"
	RedeliverySending    RedeliveryState = "sending"
	RedeliveryDone       RedeliveryState = "done"
)

// Redelivery is an order to deliver archived messages again.
type Redelivery struct {
	ID         int64           `db:"id" json:"id"`
	Actor      string          `db:"actor" json:"actor"`
	At         time.Time       `db:"at" json:"at"`
	Access     json.RawMessage `db:"access" json:"-"`
	Query      string          `db:"query" json:"query"`
	Mailbox    string          `db:"mailbox" json:"mailbox"`
	State      RedeliveryState `db:"state" json:"state"`
	Total      int64           `db:"total" json:"total"` // one for each message and mailbox
	Done       int64           `db:"done" json:"done"`
	Failed     int64           `db:"failed" json:"failed"`
	FinishedAt *time.Time      `db:"finished_at" json:"finished_at"`
}

// Left is how many are still to be delivered.
func (r *Redelivery) Left() int64 { return max(0, r.Total-r.Done-r.Failed) }

// NewRedelivery is what is asked for: some messages, or all that Query finds.
type NewRedelivery struct {
	Actor    string
	Access   Access // only to these mailboxes
	Messages []uuid.UUID
	Query    string // used when there are no Messages
	Mailbox  string // only to this mailbox; "" is all
	Record   bool   // in the audit: it is not the actor's own mail
}

// MaxChosen is how many messages may be chosen one by one.
const MaxChosen = 10_000

// targets are the mailboxes x that a message m goes to again: all that have
// it, but of internal mail not the sender's. $1 are the messages, $2 all, $3
// domains and $4 mailbox of an Access, $5 the mailbox that was asked for.
const targets = ` FROM message m JOIN message_mailbox x ON x.received = m.received AND x.id = m.id
	WHERE m.id = ANY ($1) AND ($2 OR x.domain = ANY ($3) OR x.mailbox = $4 AND $4 <> '') AND archive_needed(x.mailbox, x.domain, x.received, now()) AND ($5 = '' OR x.mailbox = $5)
	AND ($4 <> '' OR $5 <> '' OR m.direction <> 'internal' OR x.mailbox <> mailbox_of(m.sender)
		OR EXISTS (SELECT FROM unnest(m.recipients) r WHERE mailbox_of(r) = x.mailbox))`

func targetArgs(ids []uuid.UUID, a Access, mailbox string) []any {
	if a.All {
		return []any{ids, true, []string{}, "", mailbox}
	}
	return []any{ids, false, append([]string{}, a.Domains...), a.Mailbox, mailbox}
}

// Redeliver enters a redelivery and inserts its job, all or nothing. The error
// is ErrInvalid when there is nothing to deliver.
func (s *Store) Redeliver(ctx context.Context, n NewRedelivery) (*Redelivery, error) {
	if len(n.Messages) > MaxChosen {
		return nil, invalid("%d messages; at most %d can be chosen, more by a search", len(n.Messages), MaxChosen)
	}
	access, err := json.Marshal(n.Access)
	if err != nil {
		return nil, fmt.Errorf("encode access: %w", err)
	}
	state := RedeliverySending
	if len(n.Messages) == 0 {
		state = RedeliveryCollecting
		if err := (&MessageFilter{}).Ask(n.Query); err != nil {
			return nil, err
		}
	}
	var id int64
	err = s.tx(ctx, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `INSERT INTO redelivery (actor, access, query, mailbox, state) VALUES ($1, $2, $3, $4, $5) RETURNING id`,
			n.Actor, access, n.Query, n.Mailbox, state).Scan(&id)
		if err != nil {
			return err
		}
		if state == RedeliverySending {
			added, err := addItems(ctx, tx, id, n.Messages, n.Access, n.Mailbox)
			if err == nil && added == 0 {
				err = invalid("there is nothing to deliver: no such message, or not for this mailbox")
			}
			if err != nil {
				return err
			}
		}
		if n.Record {
			if _, err := tx.Exec(ctx, `UPDATE redelivery SET access = access || '{"Record": true}' WHERE id = $1`, id); err != nil {
				return err
			}
			if err := recordItems(ctx, tx, id, n.Messages); err != nil {
				return err
			}
		}
		_, err = s.jobs.InsertTx(ctx, tx, job.Redeliver{ID: id}, nil)
		return err
	})
	if err != nil {
		return nil, wrap("enter redelivery", err)
	}
	return s.Redelivery(ctx, id)
}

// addItems adds the items of messages that are not there yet.
func addItems(ctx context.Context, tx pgx.Tx, id int64, messages []uuid.UUID, a Access, mailbox string) (int64, error) {
	tag, err := tx.Exec(ctx, `INSERT INTO redelivery_item (redelivery, message, mailbox) SELECT $6, m.id, x.mailbox`+targets+` ON CONFLICT DO NOTHING`,
		append(targetArgs(messages, a, mailbox), id)...)
	if err != nil {
		return 0, err
	}
	_, err = tx.Exec(ctx, `UPDATE redelivery SET total = total + $2 WHERE id = $1`, id, tag.RowsAffected())
	return tag.RowsAffected(), err
}

// recordItems notes in the audit whose mail is delivered again.
func recordItems(ctx context.Context, tx pgx.Tx, id int64, messages []uuid.UUID) error {
	_, err := tx.Exec(ctx, `INSERT INTO audit (actor, action, message, mailbox, domain, detail)
		SELECT r.actor, 'redeliver', i.message, i.mailbox, split_part(i.mailbox, '@', -1), 'redelivery ' || r.id
		FROM redelivery_item i JOIN redelivery r ON r.id = i.redelivery WHERE r.id = $1 AND i.message = ANY ($2)`, id, messages)
	return err
}

// Redelivery returns one redelivery.
func (s *Store) Redelivery(ctx context.Context, id int64) (*Redelivery, error) {
	rows, err := s.Pool.Query(ctx, `SELECT * FROM redelivery WHERE id = $1`, id)
	if err != nil {
		return nil, wrap("read redelivery", err)
	}
	r, err := pgx.CollectExactlyOneRow(rows, pgx.RowToAddrOfStructByName[Redelivery])
	return r, wrap("read redelivery", err)
}

// Redeliveries returns the newest ones of an actor, of everybody if actor is
// "".
func (s *Store) Redeliveries(ctx context.Context, actor string, limit int) ([]Redelivery, error) {
	rows, err := s.Pool.Query(ctx, `SELECT * FROM redelivery WHERE $1 = '' OR actor = $1 ORDER BY id DESC LIMIT $2`, actor, limit)
	if err != nil {
		return nil, wrap("list redeliveries", err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByName[Redelivery])
	return out, wrap("list redeliveries", err)
}
