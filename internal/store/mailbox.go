package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"understudy/internal/address"
	"understudy/internal/directory"
)

// Mailbox is a registered mailbox with what people want to see beside it.
type Mailbox struct {
	directory.Mailbox
	Domain       string    `db:"domain" json:"domain"`
	HasPassword  bool      `db:"has_password" json:"has_password"`
	AppPasswords int       `db:"app_passwords" json:"app_passwords"`
	Aliases      []string  `db:"aliases" json:"aliases"`
	CreatedAt    time.Time `db:"created_at" json:"created_at"`
}

const selectMailbox = `SELECT m.id, m.domain_id, m.address, m.name, m.covered, m.enabled, m.quota_bytes, m.refused, m.version, m.created_at, d.name AS domain,
	EXISTS (SELECT FROM credential c WHERE c.mailbox_id = m.id AND c.kind = 'password') AS has_password,
	(SELECT count(*) FROM credential c WHERE c.mailbox_id = m.id AND c.kind = 'app') AS app_passwords,
	ARRAY(SELECT a.address FROM alias a WHERE a.mailbox_id = m.id ORDER BY a.address) AS aliases
	FROM mailbox m JOIN domain d ON d.id = m.domain_id WHERE `

// MailboxQuery chooses mailboxes, sorted by address.
type MailboxQuery struct {
	Domain string // "" is all that the viewer may see
	Search string // part of an address, an alias or a name
	After  string // the last address of the page before
	Limit  int
}

// Mailboxes returns a page of mailboxes.
func (s *Store) Mailboxes(ctx context.Context, v Viewer, q MailboxQuery) ([]Mailbox, error) {
	rows, err := s.Pool.Query(ctx, selectMailbox+visible+` AND ($3 = '' OR d.name = $3) AND m.address > $4
		AND ($5 = '%%' OR m.address ILIKE $5 OR m.name ILIKE $5
			OR EXISTS (SELECT FROM alias a WHERE a.mailbox_id = m.id AND a.address ILIKE $5))
		ORDER BY m.address LIMIT $6`, v.all, v.account, q.Domain, q.After, likePattern(q.Search), q.Limit)
	if err != nil {
		return nil, wrap("list mailboxes", err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByName[Mailbox])
	return out, wrap("list mailboxes", err)
}

// Mailbox returns one mailbox by its canonical address; ErrNotFound also when
// v may not see its domain.
func (s *Store) Mailbox(ctx context.Context, v Viewer, addr string) (*Mailbox, error) {
	rows, err := s.Pool.Query(ctx, selectMailbox+visible+` AND m.address = $3`, v.all, v.account, addr)
	if err != nil {
		return nil, wrap("mailbox "+addr, err)
	}
	m, err := pgx.CollectExactlyOneRow(rows, pgx.RowToAddrOfStructByName[Mailbox])
	return m, wrap("mailbox "+addr, err)
}

// NewMailbox is a mailbox to register.
type NewMailbox struct {
	Address    string // canonical
	Name       string
	Covered    bool
	QuotaBytes int64  // 0: the portal's default
	Hash       string // of its password; "" is none: nobody can sign in yet
}

const maxNameLength = 200 // characters

func checkMailboxName(name string) error {
	if len([]rune(name)) > maxNameLength || strings.ContainsAny(name, "\r\n\t\x00") {
		return invalid("the name %.40q; it is one line of at most %d characters", name, maxNameLength)
	}
	return nil
}

// AddMailboxes registers mailboxes, all or none. Their domains must exist
// (ErrNotFound), their addresses must be free (ErrConflict).
func (s *Store) AddMailboxes(ctx context.Context, boxes ...NewMailbox) error {
	n := len(boxes)
	addresses, domains, names, hashes := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	covered, quotas := make([]bool, n), make([]int64, n)
	for i, b := range boxes {
		a, err := address.Parse(b.Address)
		if err != nil || a.IsZero() || a.String() != b.Address {
			return invalid("%q is no canonical address", b.Address)
		}
		if err := checkMailboxName(b.Name); err != nil {
			return err
		}
		addresses[i], domains[i], names[i], hashes[i] = b.Address, a.Domain, b.Name, b.Hash
		covered[i], quotas[i] = b.Covered, b.QuotaBytes
	}
	err := s.tx(ctx, func(tx pgx.Tx) error {
		if missing, err := missingDomains(ctx, tx, domains); err != nil || len(missing) > 0 {
			return orNotFound(err, "there is no domain %s here; add it first: domain add", missing)
		}
		if taken, err := takenAddresses(ctx, tx, addresses); err != nil || len(taken) > 0 {
			return orConflict(err, taken)
		}
		_, err := tx.Exec(ctx, `INSERT INTO mailbox (domain_id, address, name, covered, quota_bytes)
			SELECT d.id, x.address, x.name, x.covered, x.quota
			FROM unnest($1::text[], $2::text[], $3::text[], $4::boolean[], $5::bigint[]) AS x (address, domain, name, covered, quota)
			JOIN domain d ON d.name = x.domain`, addresses, domains, names, covered, quotas)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO credential (mailbox_id, kind, hash)
			SELECT m.id, 'password', x.hash FROM unnest($1::text[], $2::text[]) AS x (address, hash)
			JOIN mailbox m ON m.address = x.address WHERE x.hash <> ''`, addresses, hashes)
		return err
	})
	if n == 1 {
		return wrap("add mailbox "+addresses[0], err)
	}
	return wrap(fmt.Sprintf("add %d mailboxes", n), err)
}

// TakenAddresses returns those of the addresses that are a mailbox or an
// alias already.
func (s *Store) TakenAddresses(ctx context.Context, addresses []string) ([]string, error) {
	out, err := takenAddresses(ctx, s.Pool, addresses)
	return out, wrap("look for addresses in use", err)
}

// MissingDomains returns those of the names that are not registered.
func (s *Store) MissingDomains(ctx context.Context, names []string) ([]string, error) {
	out, err := missingDomains(ctx, s.Pool, names)
	return out, wrap("look for domains", err)
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func takenAddresses(ctx context.Context, q querier, addresses []string) ([]string, error) {
	rows, err := q.Query(ctx, `SELECT address FROM mailbox WHERE address = ANY($1)
		UNION SELECT address FROM alias WHERE address = ANY($1) ORDER BY 1`, addresses)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

func missingDomains(ctx context.Context, q querier, names []string) ([]string, error) {
	rows, err := q.Query(ctx, `SELECT DISTINCT n FROM unnest($1::text[]) AS n
		WHERE NOT EXISTS (SELECT FROM domain WHERE name = n) ORDER BY n`, names)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

func orNotFound(err error, format string, missing []string) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: "+format, ErrNotFound, strings.Join(missing, ", "))
}

func orConflict(err error, taken []string) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: %s is a mailbox or an alias", ErrConflict, strings.Join(taken[:min(len(taken), 5)], ", "))
}

// MailboxChange holds the settings to change; nil ones stay.
type MailboxChange struct {
	Name       *string
	Covered    *bool
	Enabled    *bool
	QuotaBytes *int64
}

// SetMailbox changes settings of a mailbox.
func (s *Store) SetMailbox(ctx context.Context, addr string, c MailboxChange) error {
	if c.Name != nil {
		if err := checkMailboxName(*c.Name); err != nil {
			return err
		}
	}
	tag, err := s.Pool.Exec(ctx, `UPDATE mailbox SET name = coalesce($2, name), covered = coalesce($3, covered),
		enabled = coalesce($4, enabled), quota_bytes = coalesce($5, quota_bytes) WHERE address = $1`,
		addr, c.Name, c.Covered, c.Enabled, c.QuotaBytes)
	return one("set mailbox "+addr, tag.RowsAffected(), err)
}

// RemoveMailbox deletes a mailbox with its aliases and passwords. What is in
// its portal folders and in the archive stays where it is.
func (s *Store) RemoveMailbox(ctx context.Context, addr string) error {
	tag, err := s.Pool.Exec(ctx, `DELETE FROM mailbox WHERE address = $1`, addr)
	return one("remove mailbox "+addr, tag.RowsAffected(), err)
}

// likePattern is a LIKE pattern that finds s anywhere, taken literally.
func likePattern(s string) string {
	return "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(s) + "%"
}
