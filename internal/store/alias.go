package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"understudy/internal/address"
)

// Alias is another address of a mailbox.
type Alias struct {
	Address   string    `db:"address" json:"alias"`
	Mailbox   string    `db:"mailbox" json:"mailbox"`
	CreatedAt time.Time `db:"created_at" json:"created_at"`
}

// Aliases lists the aliases that v may see, of one domain or, with "", of
// all.
func (s *Store) Aliases(ctx context.Context, v Viewer, domain string) ([]Alias, error) {
	rows, err := s.Pool.Query(ctx, `SELECT l.address, m.address AS mailbox, l.created_at FROM alias l
		JOIN domain d ON d.id = l.domain_id JOIN mailbox m ON m.id = l.mailbox_id
		WHERE `+visible+` AND ($3 = '' OR d.name = $3) ORDER BY l.address`, v.all, v.account, domain)
	if err != nil {
		return nil, wrap("list aliases", err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByName[Alias])
	return out, wrap("list aliases", err)
}

// AddAlias makes alias another address of a mailbox of the same domain. Both
// are canonical. An alias of another domain would follow that one's mode and
// go back to this one's primary: refused.
func (s *Store) AddAlias(ctx context.Context, alias, mailbox string) error {
	doing := fmt.Sprintf("add alias %s of %s", alias, mailbox)
	a, err := address.Parse(alias)
	if err != nil || a.IsZero() || a.String() != alias {
		return fmt.Errorf("%s: %w", doing, invalid("%q is no canonical address", alias))
	}
	err = s.tx(ctx, func(tx pgx.Tx) error {
		var id, domainID int64
		var domain string
		err := tx.QueryRow(ctx, `SELECT m.id, d.id, d.name FROM mailbox m JOIN domain d ON d.id = m.domain_id
			WHERE m.address = $1 FOR SHARE OF m`, mailbox).Scan(&id, &domainID, &domain)
		if err != nil {
			return err
		}
		if domain != a.Domain {
			return invalid("an alias is of the same domain as its mailbox: want ...@%s", domain)
		}
		_, err = tx.Exec(ctx, `INSERT INTO alias (domain_id, address, mailbox_id) VALUES ($1, $2, $3)`, domainID, alias, id)
		return err
	})
	return wrap(doing, err)
}

// RemoveAlias deletes an alias.
func (s *Store) RemoveAlias(ctx context.Context, alias string) error {
	tag, err := s.Pool.Exec(ctx, `DELETE FROM alias WHERE address = $1`, alias)
	return one("remove alias "+alias, tag.RowsAffected(), err)
}
