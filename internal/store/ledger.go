package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"understudy/internal/job"
)

// LedgerState is how far the return of one message to its primary has come.
//
//	(none) ─Begin─▶ sending ─MarkSent─▶ sent ─MarkDone─▶ done ─PruneLedger─▶ (none)
//	                │  ▲ └─Failed─▶ sending, with the reply
//	              Hold └─Retry
//	                ▼  │
//	                held
type LedgerState string

// The states of a message in the drain ledger.
const (
	Sending LedgerState = "sending" // an attempt is or was under way; if Reply is empty its outcome is unknown
	Sent    LedgerState = "sent"    // the primary has it; still to be removed from INBOX
	Done    LedgerState = "done"    // removed from INBOX
	Held    LedgerState = "held"    // the primary refused it; stays in INBOX until Retry
)

// LedgerKey names a message: the gateway in whose portal it lies, the portal
// mailbox there, and Dovecot's message GUID, which survives moves and the loss
// of indexes. What one gateway's worker says of a mailbox never concerns what
// the same mailbox has at another.
type LedgerKey struct {
	Gateway string
	Mailbox string // canonical address
	GUID    string
}

// LedgerEntry is one row of the drain ledger.
type LedgerEntry struct {
	Gateway   string      `db:"gateway" json:"gateway"`
	Mailbox   string      `db:"mailbox" json:"mailbox"`
	GUID      string      `db:"guid" json:"guid"`
	Domain    string      `db:"domain" json:"domain"`
	State     LedgerState `db:"state" json:"state"`
	Attempts  int         `db:"attempts" json:"attempts"`
	Size      int64       `db:"size" json:"size"`   // in bytes
	Reply     string      `db:"reply" json:"reply"` // the primary's last reply
	FirstAt   time.Time   `db:"first_at" json:"first_at"`
	UpdatedAt time.Time   `db:"updated_at" json:"updated_at"`
}

// Begin records that a message is about to be sent. It returns what the
// ledger said before: the zero state when the message is new, Sending when it
// is to be sent again; any other state means that it must not be sent.
func (s *Store) Begin(ctx context.Context, k LedgerKey, domain string, size int64) (before LedgerEntry, err error) {
	err = s.tx(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT * FROM drain_ledger WHERE gateway = $1 AND mailbox = $2 AND guid = $3 FOR UPDATE`, k.Gateway, k.Mailbox, k.GUID)
		if err != nil {
			return err
		}
		before, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[LedgerEntry])
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		if before.State != "" && before.State != Sending {
			return nil
		}
		_, err = tx.Exec(ctx, `INSERT INTO drain_ledger (gateway, mailbox, guid, domain, state, attempts, size) VALUES ($1, $2, $3, $4, 'sending', 1, $5)
			ON CONFLICT (gateway, mailbox, guid) DO UPDATE SET attempts = drain_ledger.attempts + 1, reply = '', updated_at = now()`,
			k.Gateway, k.Mailbox, k.GUID, domain, size)
		return err
	})
	return before, wrap("begin return of "+k.GUID, err)
}

// Failed records how an attempt ended that the primary did not confirm: the
// message stays Sending.
func (s *Store) Failed(ctx context.Context, k LedgerKey, reply string) error {
	return s.ledgerStep(ctx, k, Sending, Sending, reply)
}

// MarkSent records the primary's 250.
func (s *Store) MarkSent(ctx context.Context, k LedgerKey, reply string) error {
	return s.ledgerStep(ctx, k, Sending, Sent, reply)
}

// Hold records that the primary refuses the message for good.
func (s *Store) Hold(ctx context.Context, k LedgerKey, reply string) error {
	return s.ledgerStep(ctx, k, Sending, Held, reply)
}

// ledgerStep moves a row from one state to another; ErrNotFound when it is
// not in the first.
func (s *Store) ledgerStep(ctx context.Context, k LedgerKey, from, to LedgerState, reply string) error {
	tag, err := s.Pool.Exec(ctx, `UPDATE drain_ledger SET state = $5, reply = $6, updated_at = now()
		WHERE gateway = $1 AND mailbox = $2 AND guid = $3 AND state = $4`, k.Gateway, k.Mailbox, k.GUID, from, to, reply)
	if err == nil && tag.RowsAffected() != 1 {
		err = fmt.Errorf("%w: no message %s in state %s", ErrNotFound, k.GUID, from)
	}
	return wrap("set drain ledger to "+string(to), err)
}

// MarkDone records that messages of a mailbox are removed from INBOX; those
// that are not Sent are left as they are.
func (s *Store) MarkDone(ctx context.Context, gateway, mailbox string, guids ...string) error {
	_, err := s.Pool.Exec(ctx, `UPDATE drain_ledger SET state = 'done', updated_at = now()
		WHERE gateway = $1 AND mailbox = $2 AND guid = ANY ($3) AND state = 'sent'`, gateway, mailbox, guids)
	return wrap("set drain ledger to done", err)
}

// Settle closes what a gateway's mailbox has in the ledger of messages that
// are no longer in its INBOX, of which present are all: Sent ones are Done, the
// others were moved or removed by their owner and are forgotten.
func (s *Store) Settle(ctx context.Context, gateway, mailbox string, present []string) error {
	err := s.tx(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE drain_ledger SET state = 'done', updated_at = now()
			WHERE gateway = $1 AND mailbox = $2 AND guid <> ALL ($3) AND state = 'sent'`, gateway, mailbox, present)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `DELETE FROM drain_ledger
			WHERE gateway = $1 AND mailbox = $2 AND guid <> ALL ($3) AND state IN ('sending', 'held')`, gateway, mailbox, present)
		return err
	})
	return wrap("settle drain ledger of "+mailbox, err)
}

// Retry makes a domain's held messages sendable again and inserts a drain job
// for each gateway that has some, all or nothing. It returns how many there
// were.
func (s *Store) Retry(ctx context.Context, domain string) (n int64, err error) {
	err = s.tx(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `UPDATE drain_ledger SET state = 'sending', updated_at = now()
			WHERE domain = $1 AND state = 'held' RETURNING gateway`, domain)
		if err != nil {
			return err
		}
		gateways, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		n = int64(len(gateways))
		slices.Sort(gateways)
		for _, g := range slices.Compact(gateways) {
			if _, err := s.jobs.InsertTx(ctx, tx, job.Drain{Domain: domain, Gateway: g}, nil); err != nil {
				return err
			}
		}
		return nil
	})
	return n, wrap("retry held messages of "+domain, err)
}

// AdoptLedger gives a gateway the rows that name none: they are of a time when
// there was only one.
func (s *Store) AdoptLedger(ctx context.Context, gateway string) error {
	_, err := s.Pool.Exec(ctx, `UPDATE drain_ledger SET gateway = $1 WHERE gateway = ''`, gateway)
	return wrap("take over drain ledger", err)
}
