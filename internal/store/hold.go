package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Hold keeps the archive of a domain or a mailbox from expiring.
type Hold struct {
	Domain  string     `db:"domain" json:"domain"`
	Mailbox string     `db:"mailbox" json:"mailbox"` // canonical address; "" is the whole domain
	Since   time.Time  `db:"since" json:"since"`
	Actor   string     `db:"actor" json:"actor"` // who set it
	Reason  string     `db:"reason" json:"reason"`
	Ended   *time.Time `db:"ended_at" json:"ended_at"`
	EndedBy string     `db:"ended_by" json:"ended_by"`
}

// holdTarget splits what is held into domain and mailbox.
func holdTarget(target string) (domain, mailbox string) {
	if strings.Contains(target, "@") {
		return domainOf(target), target
	}
	return target, ""
}

// CheckHold refuses a target that would hold nothing: an alias, whose mail is
// archived under its mailbox (ErrInvalid), and an address that is no mailbox
// and has nothing in the index of the archive (ErrNotFound).
func (s *Store) CheckHold(ctx context.Context, target string) error {
	_, mailbox := holdTarget(target)
	if mailbox == "" {
		return nil
	}
	var of string
	var known bool
	err := s.Pool.QueryRow(ctx, `SELECT coalesce((SELECT m.address FROM alias a JOIN mailbox m ON m.id = a.mailbox_id WHERE a.address = $1), ''),
		EXISTS (SELECT FROM mailbox WHERE address = $1) OR EXISTS (SELECT FROM segment_mailbox WHERE mailbox = $1)`, mailbox).Scan(&of, &known)
	switch {
	case err != nil:
		return wrap("hold "+target, err)
	case of != "":
		return invalid("%s is an alias of %s, and its mail is archived under that: hold %s", mailbox, of, of)
	case !known:
		return fmt.Errorf("hold %s: %w: there is no such mailbox, nor mail for it in the archive", target, ErrNotFound)
	}
	return nil
}

// AddHold puts a domain, or a mailbox by its canonical address, on hold: from
// now on nothing of it expires that has not expired yet. ErrNotFound says that
// the domain was never registered, ErrConflict that it is held already.
func (s *Store) AddHold(ctx context.Context, target, actor, reason string) error {
	if strings.TrimSpace(reason) == "" {
		return invalid("a legal hold needs a reason")
	}
	domain, mailbox := holdTarget(target)
	tag, err := s.Pool.Exec(ctx, `INSERT INTO legal_hold (domain, mailbox, actor, reason)
		SELECT domain, $2, $3, $4 FROM retention WHERE domain = $1`, domain, mailbox, actor, reason)
	if err == nil && tag.RowsAffected() == 0 {
		err = fmt.Errorf("%w: domain %s", ErrNotFound, domain)
	}
	return wrap("hold "+target, err)
}

// EndHold ends a hold, or returns ErrNotFound. What is older than the domain's
// retention expires with the next run.
func (s *Store) EndHold(ctx context.Context, target, actor string) error {
	domain, mailbox := holdTarget(target)
	tag, err := s.Pool.Exec(ctx, `UPDATE legal_hold SET ended_at = now(), ended_by = $3
		WHERE domain = $1 AND mailbox = $2 AND ended_at IS NULL`, domain, mailbox, actor)
	if err == nil && tag.RowsAffected() == 0 {
		err = ErrNotFound
	}
	return wrap("end hold of "+target, err)
}

// Holds lists holds, the newest first; with ended also those that have ended.
func (s *Store) Holds(ctx context.Context, ended bool) ([]Hold, error) {
	rows, err := s.Pool.Query(ctx, `SELECT domain, mailbox, since, actor, reason, ended_at, ended_by FROM legal_hold
		WHERE $1 OR ended_at IS NULL ORDER BY id DESC`, ended)
	if err != nil {
		return nil, wrap("list holds", err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByName[Hold])
	return out, wrap("list holds", err)
}
