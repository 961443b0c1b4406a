package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"understudy/internal/directory"
)

// MaxAppPasswords is the most that one mailbox may have: each of them is
// tried at a login.
const MaxAppPasswords = 25

// MailboxLogin is what signing in to the website as a mailbox owner needs.
type MailboxLogin struct {
	ID      int64  `db:"id"`
	Address string `db:"address"`
	Domain  string `db:"domain"`
	Enabled bool   `db:"enabled"`
	Hash    string `db:"hash"` // of the main password, never of an app password; "" is none
}

const selectMailboxLogin = `SELECT m.id, m.address, d.name AS domain, m.enabled, coalesce(c.hash, '') AS hash
	FROM mailbox m JOIN domain d ON d.id = m.domain_id
	LEFT JOIN credential c ON c.mailbox_id = m.id AND c.kind = 'password' WHERE `

// MailboxLogin finds a mailbox by its canonical address.
func (s *Store) MailboxLogin(ctx context.Context, addr string) (*MailboxLogin, error) {
	return s.mailboxLogin(ctx, `m.address = $1`, addr)
}

// MailboxLoginByID finds a mailbox by its row.
func (s *Store) MailboxLoginByID(ctx context.Context, id int64) (*MailboxLogin, error) {
	return s.mailboxLogin(ctx, `m.id = $1`, id)
}

func (s *Store) mailboxLogin(ctx context.Context, where string, arg any) (*MailboxLogin, error) {
	rows, err := s.Pool.Query(ctx, selectMailboxLogin+where, arg)
	if err != nil {
		return nil, wrap("sign-in of a mailbox", err)
	}
	m, err := pgx.CollectExactlyOneRow(rows, pgx.RowToAddrOfStructByName[MailboxLogin])
	return m, wrap("sign-in of a mailbox", err)
}

// SetMailboxPassword sets the main password of a mailbox, by its hash.
func (s *Store) SetMailboxPassword(ctx context.Context, addr, hash string) error {
	tag, err := s.Pool.Exec(ctx, `INSERT INTO credential (mailbox_id, kind, hash)
		SELECT id, 'password', $2 FROM mailbox WHERE address = $1
		ON CONFLICT (mailbox_id, kind, label) DO UPDATE SET hash = excluded.hash, created_at = now()`, addr, hash)
	return one("set password of "+addr, tag.RowsAffected(), err)
}

// AppPassword is a password of one device or program; it signs in to the
// portal, not to the website.
type AppPassword struct {
	Label     string    `db:"label" json:"label"`
	CreatedAt time.Time `db:"created_at" json:"created_at"`
}

// AppPasswords lists the app passwords of a mailbox, oldest first.
func (s *Store) AppPasswords(ctx context.Context, addr string) ([]AppPassword, error) {
	rows, err := s.Pool.Query(ctx, `SELECT c.label, c.created_at FROM credential c JOIN mailbox m ON m.id = c.mailbox_id
		WHERE m.address = $1 AND c.kind = 'app' ORDER BY c.created_at, c.label`, addr)
	if err != nil {
		return nil, wrap("list app passwords of "+addr, err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByName[AppPassword])
	return out, wrap("list app passwords of "+addr, err)
}

// AddAppPassword adds an app password by its hash. The label tells it from
// the mailbox's others.
func (s *Store) AddAppPassword(ctx context.Context, addr, label, hash string) error {
	label = strings.TrimSpace(label)
	if label == "" || len([]rune(label)) > 60 || strings.ContainsAny(label, "\r\n\t\x00") {
		return invalid("the label %.40q; name the device or program in 1 to 60 characters", label)
	}
	err := s.tx(ctx, func(tx pgx.Tx) error {
		var id int64
		if err := tx.QueryRow(ctx, `SELECT id FROM mailbox WHERE address = $1 FOR UPDATE`, addr).Scan(&id); err != nil {
			return err
		}
		var have int
		err := tx.QueryRow(ctx, `SELECT count(*) FROM credential WHERE mailbox_id = $1 AND kind = 'app'`, id).Scan(&have)
		if err != nil {
			return err
		}
		if have >= MaxAppPasswords {
			return invalid("there are %d app passwords already; remove one first", have)
		}
		_, err = tx.Exec(ctx, `INSERT INTO credential (mailbox_id, kind, label, hash) VALUES ($1, 'app', $2, $3)`, id, label, hash)
		return err
	})
	return wrap(fmt.Sprintf("add app password %q of %s", label, addr), err)
}

// RemoveAppPassword ends an app password.
func (s *Store) RemoveAppPassword(ctx context.Context, addr, label string) error {
	tag, err := s.Pool.Exec(ctx, `DELETE FROM credential c USING mailbox m
		WHERE m.id = c.mailbox_id AND m.address = $1 AND c.kind = 'app' AND c.label = $2`, addr, label)
	return one(fmt.Sprintf("remove app password %q of %s", label, addr), tag.RowsAffected(), err)
}

// MailboxStatus is what a mailbox owner may know of the domain: where the
// mail is.
type MailboxStatus struct {
	Address   string         `db:"address"`
	Name      string         `db:"name"`
	Domain    string         `db:"domain"`
	Mode      directory.Mode `db:"mode"`
	ModeSince time.Time      `db:"mode_since"`
	Covered   bool           `db:"covered"` // by the domain's scope or by itself
}

// MailboxStatus finds it by the mailbox's row.
func (s *Store) MailboxStatus(ctx context.Context, id int64) (*MailboxStatus, error) {
	rows, err := s.Pool.Query(ctx, `SELECT m.address, m.name, d.name AS domain, d.mode, d.mode_since, m.covered OR d.scope = 'all' AS covered
		FROM mailbox m JOIN domain d ON d.id = m.domain_id WHERE m.id = $1`, id)
	if err != nil {
		return nil, wrap("status of a mailbox", err)
	}
	m, err := pgx.CollectExactlyOneRow(rows, pgx.RowToAddrOfStructByName[MailboxStatus])
	return m, wrap("status of a mailbox", err)
}
