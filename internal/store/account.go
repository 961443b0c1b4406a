package store

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Role is what an account may do.
type Role string

// The two roles of accounts. Mailbox owners sign in with their mailbox.
const (
	Operator    Role = "operator" // everything
	DomainAdmin Role = "admin"    // its own domains
)

// Account is a person who signs in to the website, mailbox owners aside.
type Account struct {
	ID        int64     `db:"id" json:"-"`
	Login     string    `db:"login" json:"login"`
	Role      Role      `db:"role" json:"role"`
	Hash      string    `db:"hash" json:"-"`
	Domains   []string  `db:"domains" json:"domains"` // of a domain admin
	CreatedAt time.Time `db:"created_at" json:"created_at"`
}

const selectAccount = `SELECT a.id, a.login, a.role, a.hash, a.created_at,
	ARRAY(SELECT d.name FROM account_domain x JOIN domain d ON d.id = x.domain_id WHERE x.account_id = a.id ORDER BY d.name) AS domains
	FROM account a WHERE `

// Accounts lists all accounts by login.
func (s *Store) Accounts(ctx context.Context) ([]Account, error) {
	rows, err := s.Pool.Query(ctx, selectAccount+`true ORDER BY a.login`)
	if err != nil {
		return nil, wrap("list accounts", err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByName[Account])
	return out, wrap("list accounts", err)
}

// Account finds an account by its login, in any case.
func (s *Store) Account(ctx context.Context, login string) (*Account, error) {
	return s.account(ctx, `a.login = $1`, strings.ToLower(login))
}

// AccountByID finds an account by its row.
func (s *Store) AccountByID(ctx context.Context, id int64) (*Account, error) {
	return s.account(ctx, `a.id = $1`, id)
}

func (s *Store) account(ctx context.Context, where string, arg any) (*Account, error) {
	rows, err := s.Pool.Query(ctx, selectAccount+where, arg)
	if err != nil {
		return nil, wrap("account", err)
	}
	a, err := pgx.CollectExactlyOneRow(rows, pgx.RowToAddrOfStructByName[Account])
	return a, wrap("account", err)
}

// AddAccount adds an account with the given login, role, hash and domains.
func (s *Store) AddAccount(ctx context.Context, a Account) error {
	a.Login = strings.ToLower(strings.TrimSpace(a.Login))
	if a.Login == "" || len(a.Login) > 254 || strings.ContainsAny(a.Login, " :\t\r\n\x00") {
		return invalid("the login %.40q; it is 1 to 254 characters without spaces and colons", a.Login)
	}
	err := s.tx(ctx, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `INSERT INTO account (login, role, hash) VALUES ($1, $2, $3) RETURNING id`,
			a.Login, a.Role, a.Hash).Scan(&a.ID)
		if err != nil {
			return err
		}
		return setAccountDomains(ctx, tx, a.ID, a.Role, a.Domains)
	})
	return wrap("add account "+a.Login, err)
}

// AccountChange holds what to change; nil stays.
type AccountChange struct {
	Role    *Role
	Hash    *string
	Domains []string
}

// SetAccount changes an account. It takes effect with the account's next
// request: a changed password ends its sessions.
func (s *Store) SetAccount(ctx context.Context, login string, c AccountChange) error {
	err := s.tx(ctx, func(tx pgx.Tx) error {
		var id int64
		var role Role
		err := tx.QueryRow(ctx, `UPDATE account SET role = coalesce($2, role), hash = coalesce($3, hash)
			WHERE login = $1 RETURNING id, role`, strings.ToLower(login), c.Role, c.Hash).Scan(&id, &role)
		if err != nil {
			return err
		}
		if c.Domains == nil && role == DomainAdmin {
			return nil
		}
		return setAccountDomains(ctx, tx, id, role, c.Domains)
	})
	return wrap("set account "+login, err)
}

func setAccountDomains(ctx context.Context, tx pgx.Tx, id int64, role Role, domains []string) error {
	if role == Operator && len(domains) > 0 {
		return invalid("an operator sees all domains; give domains to a domain admin only")
	}
	if missing, err := missingDomains(ctx, tx, domains); err != nil || len(missing) > 0 {
		return orNotFound(err, "there is no domain %s here", missing)
	}
	if _, err := tx.Exec(ctx, `DELETE FROM account_domain WHERE account_id = $1`, id); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `INSERT INTO account_domain SELECT $1, id FROM domain WHERE name = ANY($2)`, id, domains)
	return err
}

// RemoveAccount deletes an account; its sessions end with its next request.
func (s *Store) RemoveAccount(ctx context.Context, login string) error {
	tag, err := s.Pool.Exec(ctx, `DELETE FROM account WHERE login = $1`, strings.ToLower(login))
	return one("remove account "+login, tag.RowsAffected(), err)
}
