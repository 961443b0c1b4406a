package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// LedgerOf returns what the ledger says of a gateway's mailbox, by GUID.
func (s *Store) LedgerOf(ctx context.Context, gateway, mailbox string) (map[string]LedgerEntry, error) {
	rows, err := s.Pool.Query(ctx, `SELECT * FROM drain_ledger WHERE gateway = $1 AND mailbox = $2`, gateway, mailbox)
	if err != nil {
		return nil, wrap("read drain ledger", err)
	}
	out := map[string]LedgerEntry{}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[LedgerEntry])
	for _, e := range list {
		out[e.GUID] = e
	}
	return out, wrap("read drain ledger", err)
}

// OpenMailboxes returns the mailboxes of a domain that have a message at a
// gateway that is in the ledger and not Done.
func (s *Store) OpenMailboxes(ctx context.Context, gateway, domain string) ([]string, error) {
	rows, err := s.Pool.Query(ctx, `SELECT DISTINCT mailbox FROM drain_ledger
		WHERE gateway = $1 AND domain = $2 AND state <> 'done' ORDER BY mailbox`, gateway, domain)
	if err != nil {
		return nil, wrap("read drain ledger", err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return out, wrap("read drain ledger", err)
}

// OpenDomains returns the domains that OpenMailboxes has something for.
func (s *Store) OpenDomains(ctx context.Context, gateway string) ([]string, error) {
	rows, err := s.Pool.Query(ctx, `SELECT DISTINCT domain FROM drain_ledger WHERE gateway = $1 AND state <> 'done' ORDER BY domain`, gateway)
	if err != nil {
		return nil, wrap("read drain ledger", err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return out, wrap("read drain ledger", err)
}

// LedgerCounts is how many messages of a domain are in each state.
type LedgerCounts struct {
	Sending int64 `db:"sending" json:"sending"`
	Sent    int64 `db:"sent" json:"sent"`
	Done    int64 `db:"done" json:"done"`
	Held    int64 `db:"held" json:"held"`
}

// Counts sums up the ledger of a domain, over all gateways. Done counts what PruneLedger has
// left.
func (s *Store) Counts(ctx context.Context, domain string) (LedgerCounts, error) {
	rows, err := s.Pool.Query(ctx, `SELECT count(*) FILTER (WHERE state = 'sending') AS sending, count(*) FILTER (WHERE state = 'sent') AS sent,
		count(*) FILTER (WHERE state = 'done') AS done, count(*) FILTER (WHERE state = 'held') AS held FROM drain_ledger WHERE domain = $1`, domain)
	if err != nil {
		return LedgerCounts{}, wrap("count drain ledger", err)
	}
	out, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[LedgerCounts])
	return out, wrap("count drain ledger", err)
}

// HeldMessages returns a domain's held messages, the longest held first.
func (s *Store) HeldMessages(ctx context.Context, domain string, limit int) ([]LedgerEntry, error) {
	rows, err := s.Pool.Query(ctx, `SELECT * FROM drain_ledger WHERE domain = $1 AND state = 'held'
		ORDER BY updated_at, mailbox, guid, gateway LIMIT $2`, domain, limit)
	if err != nil {
		return nil, wrap("read held messages", err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByName[LedgerEntry])
	return out, wrap("read held messages", err)
}

// PruneLedger forgets messages that were done before a time. A message that
// its owner puts back into INBOX after that is returned once more.
func (s *Store) PruneLedger(ctx context.Context, before time.Time) (int64, error) {
	tag, err := s.Pool.Exec(ctx, `DELETE FROM drain_ledger WHERE state = 'done' AND updated_at < $1`, before)
	return tag.RowsAffected(), wrap("prune drain ledger", err)
}
