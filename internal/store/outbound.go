package store

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"understudy/internal/address"
	"understudy/internal/directory"
)

// OutboundAccount is a login of a customer's servers, with the names of its
// domains.
type OutboundAccount struct {
	Name      string    `db:"name" json:"name"`
	Domains   []string  `db:"domains" json:"domains"` // empty when all of them were removed
	Enabled   bool      `db:"enabled" json:"enabled"`
	PerHour   int       `db:"per_hour" json:"per_hour"` // recipients; 0: policyd's default
	PerDay    int       `db:"per_day" json:"per_day"`
	CreatedAt time.Time `db:"created_at" json:"created_at"`
	Mine      bool      `db:"mine" json:"-"` // the viewer may see every domain of it, and so may change it
}

const selectOutbound = `SELECT x.name, ARRAY(SELECT d.name FROM domain d WHERE d.id = ANY (x.domain_ids) ORDER BY d.name) AS domains,
	x.enabled, x.per_hour, x.per_day, x.created_at,
	NOT EXISTS (SELECT FROM domain d WHERE d.id = ANY (x.domain_ids) AND NOT ` + visible + `) AS mine
	FROM outbound_account x WHERE `

// OutboundAccounts lists the accounts that may send as a domain that v may
// see; with "", as any of these, and for Everything those without a domain.
func (s *Store) OutboundAccounts(ctx context.Context, v Viewer, domain string) ([]OutboundAccount, error) {
	rows, err := s.Pool.Query(ctx, selectOutbound+`($1 AND $3 = '' OR EXISTS (SELECT FROM domain d
		WHERE d.id = ANY (x.domain_ids) AND ($3 = '' OR d.name = $3) AND `+visible+`)) ORDER BY x.name`, v.all, v.account, domain)
	if err != nil {
		return nil, wrap("list outbound accounts", err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByName[OutboundAccount])
	return out, wrap("list outbound accounts", err)
}

// NewOutboundAccount is an account to add.
type NewOutboundAccount struct {
	Name            string
	Domains         []string
	PerHour, PerDay int
	Hash            string // of its password
}

var outboundName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{1,62}$`)

// AddOutboundAccount adds an account. Its domains must exist (ErrNotFound),
// its name must be free (ErrConflict).
func (s *Store) AddOutboundAccount(ctx context.Context, n NewOutboundAccount) error {
	doing := "add outbound account " + n.Name
	switch {
	case !outboundName.MatchString(n.Name):
		return invalid("%.80q is no account name; write 2 to 63 of a-z, 0-9, '.', '_', '-', such as relay-1", n.Name)
	case n.Hash == "":
		return invalid("an outbound account needs a password")
	case n.PerHour < 0 || n.PerDay < 0:
		return invalid("a limit is a number of recipients; 0 is the default")
	}
	err := s.tx(ctx, func(tx pgx.Tx) error {
		ids, err := domainIDs(ctx, tx, n.Domains)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO outbound_account (name, domain_ids, hash, per_hour, per_day) VALUES ($1, $2, $3, $4, $5)`,
			n.Name, ids, n.Hash, n.PerHour, n.PerDay)
		return err
	})
	return wrap(doing, err)
}

// domainIDs finds domains, and keeps them from being removed until tx ends.
func domainIDs(ctx context.Context, tx pgx.Tx, names []string) ([]int64, error) {
	var in []string
	for _, n := range names {
		name, err := address.Domain(n)
		if err != nil {
			return nil, invalid("%.80q is no domain name", n)
		}
		if !slices.Contains(in, name) {
			in = append(in, name)
		}
	}
	if len(in) == 0 {
		return nil, invalid("an outbound account needs a domain that it sends for")
	}
	if missing, err := missingDomains(ctx, tx, in); err != nil || len(missing) > 0 {
		return nil, orNotFound(err, "there is no domain %s here", missing)
	}
	rows, err := tx.Query(ctx, `SELECT id FROM domain WHERE name = ANY ($1) FOR KEY SHARE`, in)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[int64])
}

// OutboundChange holds what to change; nil stays.
type OutboundChange struct {
	Domains         []string
	Enabled         *bool
	PerHour, PerDay *int
	Hash            *string
}

// SetOutboundAccount changes an account.
func (s *Store) SetOutboundAccount(ctx context.Context, name string, c OutboundChange) error {
	doing := "set outbound account " + name
	err := s.tx(ctx, func(tx pgx.Tx) error {
		var ids []int64 // NULL stays
		var err error
		if c.Domains != nil {
			if ids, err = domainIDs(ctx, tx, c.Domains); err != nil {
				return err
			}
		}
		tag, err := tx.Exec(ctx, `UPDATE outbound_account SET domain_ids = coalesce($2, domain_ids), enabled = coalesce($3, enabled),
			per_hour = coalesce($4, per_hour), per_day = coalesce($5, per_day), hash = coalesce($6, hash) WHERE name = $1`,
			name, ids, c.Enabled, c.PerHour, c.PerDay, c.Hash)
		return one(doing, tag.RowsAffected(), err)
	})
	return wrap(doing, err)
}

// RemoveOutboundAccount deletes an account. Who is signed in by it may go on
// until its session ends, with no sender address but <>.
func (s *Store) RemoveOutboundAccount(ctx context.Context, name string) error {
	tag, err := s.Pool.Exec(ctx, `DELETE FROM outbound_account WHERE name = $1`, name)
	return one("remove outbound account "+name, tag.RowsAffected(), err)
}

// SendLimits returns a domain's own limits, all 0 if it has none.
func (s *Store) SendLimits(ctx context.Context, domain string) (directory.SendLimit, error) {
	rows, err := s.Pool.Query(ctx, `SELECT d.id, coalesce(mailbox_per_hour, 0) AS mailbox_per_hour, coalesce(mailbox_per_day, 0) AS mailbox_per_day,
		coalesce(network_per_hour, 0) AS network_per_hour, coalesce(network_per_day, 0) AS network_per_day, coalesce(l.version, 0) AS version
		FROM domain d LEFT JOIN send_limit l ON l.id = d.id WHERE d.name = $1`, domain)
	if err != nil {
		return directory.SendLimit{}, wrap("limits of "+domain, err)
	}
	l, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[directory.SendLimit])
	return l, wrap("limits of "+domain, err)
}

// SetSendLimits gives a domain limits of its own; 0 is the default.
func (s *Store) SetSendLimits(ctx context.Context, domain string, l directory.SendLimit) error {
	tag, err := s.Pool.Exec(ctx, `INSERT INTO send_limit (id, mailbox_per_hour, mailbox_per_day, network_per_hour, network_per_day)
		SELECT id, $2, $3, $4, $5 FROM domain WHERE name = $1
		ON CONFLICT (id) DO UPDATE SET mailbox_per_hour = $2, mailbox_per_day = $3, network_per_hour = $4, network_per_day = $5`,
		domain, l.MailboxPerHour, l.MailboxPerDay, l.NetworkPerHour, l.NetworkPerDay)
	return one(fmt.Sprintf("set limits of %s", domain), tag.RowsAffected(), err)
}
