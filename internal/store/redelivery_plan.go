package store

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// RedeliveryPlan says what a redelivery would do, before it is asked for.
type RedeliveryPlan struct {
	Messages int           // that were found; at most the limit
	More     bool          // there are more than that
	Targets  []RedeliverTo // by domain
}

// RedeliverTo is what of a redelivery goes to the mailboxes of one domain.
type RedeliverTo struct {
	Domain    string `db:"domain"`
	Mode      string `db:"mode"` // "" when the domain is not ours any more
	Messages  int    `db:"messages"`
	Mailboxes int    `db:"mailboxes"`
	Mailbox   string `db:"mailbox"` // one of them
}

// PlanRedelivery looks at up to limit messages: the chosen ones, or those that
// the query finds.
func (s *Store) PlanRedelivery(ctx context.Context, n NewRedelivery, limit int) (*RedeliveryPlan, error) {
	ids, more := n.Messages, false
	if len(ids) == 0 {
		err := s.find(ctx, n, time.Time{}, func(page []uuid.UUID) (bool, error) {
			ids = append(ids, page...)
			return len(ids) <= limit, nil
		})
		if err != nil {
			return nil, err
		}
		if more = len(ids) > limit; more {
			ids = ids[:limit]
		}
	}
	rows, err := s.Pool.Query(ctx, `SELECT t.domain, coalesce(d.mode, '') AS mode, count(*) AS messages, count(DISTINCT t.mailbox) AS mailboxes, min(t.mailbox) AS mailbox
		FROM (SELECT x.domain, x.mailbox`+targets+`) AS t LEFT JOIN domain d ON d.name = t.domain GROUP BY t.domain, d.mode ORDER BY t.domain`,
		targetArgs(ids, n.Access, n.Mailbox)...)
	if err != nil {
		return nil, wrap("plan redelivery", err)
	}
	out := &RedeliveryPlan{Messages: len(ids), More: more}
	out.Targets, err = pgx.CollectRows(rows, pgx.RowToStructByName[RedeliverTo])
	return out, wrap("plan redelivery", err)
}

// find walks through what the query of a redelivery finds, newest first, until
// each returns false; before is zero or when they were received at the latest.
func (s *Store) find(ctx context.Context, n NewRedelivery, before time.Time, each func([]uuid.UUID) (bool, error)) error {
	f := MessageFilter{Access: n.Access, Mailbox: n.Mailbox, Before: before, Limit: maxPage}
	if err := f.Ask(n.Query); err != nil {
		return err
	}
	for {
		page, next, err := s.SearchMessages(ctx, f)
		if err != nil {
			return err
		}
		ids := make([]uuid.UUID, len(page))
		for i, m := range page {
			ids[i] = m.ID
		}
		on, err := each(ids)
		if err != nil || !on || next == nil {
			return err
		}
		f.Cursor = *next
	}
}

// Sent reports whether what has this envelope sender was sent from a mailbox
// that access covers, perhaps by an alias: who may then see its Bcc field, which
// Postfix drops only after the archive has the message.
func (s *Store) Sent(ctx context.Context, a Access, sender string) (bool, error) {
	if a.All {
		return true, nil
	}
	mailbox, err := s.mailboxOf(ctx, sender)
	return err == nil && a.Covers(mailbox), err
}

// mailboxOf returns the canonical mailbox that an address of an envelope leads
// to now, or the address itself.
func (s *Store) mailboxOf(ctx context.Context, addr string) (string, error) {
	var out string
	err := s.Pool.QueryRow(ctx, `SELECT mailbox_of($1)`, clean(addr)).Scan(&out)
	return out, wrap("resolve "+addr, err)
}
