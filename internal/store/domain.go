package store

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"understudy/internal/directory"
)

// Viewer says whose eyes a query has: what it may see is decided in SQL. The
// zero Viewer sees nothing.
type Viewer struct {
	account int64
	all     bool
}

// Everything is the viewer of the command line, which sees all domains.
var Everything = Viewer{all: true}

// AccountViewer sees what the account may see now: all domains for an
// operator, its own for a domain admin.
func AccountViewer(accountID int64) Viewer { return Viewer{account: accountID} }

// visible is true for domains d that the viewer ($1 all, $2 account) may see.
const visible = `($1 OR EXISTS (SELECT FROM account a WHERE a.id = $2 AND (a.role = 'operator'
	OR EXISTS (SELECT FROM account_domain x WHERE x.account_id = a.id AND x.domain_id = d.id))))`

// Domain is one customer domain with what people want to see beside it.
type Domain struct {
	directory.Domain
	CreatedAt time.Time  `db:"created_at" json:"created_at"`
	Mailboxes int        `db:"mailboxes" json:"mailboxes"`             // registered ones
	KeptDays  *int       `db:"kept_days" json:"kept_days,omitempty"`   // a longer retention of the last week: nothing that it keeps
	KeptUntil *time.Time `db:"kept_until" json:"kept_until,omitempty"` // is removed until then; nil: there was none
}

const selectDomain = `SELECT d.id, d.name, d.primaries, d.activation, d.scope, d.mode, d.mode_since, d.mode_manual,
	d.primary_failing, d.retention_days, d.outbound_networks, d.detect_failures, d.detect_storm, d.probe_seconds, d.recover_seconds,
	d.version, d.created_at, (SELECT count(*) FROM mailbox m WHERE m.domain_id = d.id) AS mailboxes, r.longer AS kept_days, r.longer_until AS kept_until
	FROM domain d LEFT JOIN retention r ON r.domain = d.name AND r.longer > r.days AND r.longer_until > now() WHERE `

// Domains returns the domains that v may see, sorted by name.
func (s *Store) Domains(ctx context.Context, v Viewer) ([]Domain, error) {
	rows, err := s.Pool.Query(ctx, selectDomain+visible+` ORDER BY d.name`, v.all, v.account)
	if err != nil {
		return nil, wrap("list domains", err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByName[Domain])
	return out, wrap("list domains", err)
}

// Domain returns one domain; ErrNotFound also when v may not see it.
func (s *Store) Domain(ctx context.Context, v Viewer, name string) (*Domain, error) {
	rows, err := s.Pool.Query(ctx, selectDomain+visible+` AND d.name = $3`, v.all, v.account, name)
	if err != nil {
		return nil, wrap("domain "+name, err)
	}
	d, err := pgx.CollectExactlyOneRow(rows, pgx.RowToAddrOfStructByName[Domain])
	return d, wrap("domain "+name, err)
}

// AddDomain registers a domain. It starts in normal mode.
func (s *Store) AddDomain(ctx context.Context, d directory.Domain) (*Domain, error) {
	if err := checkDomain(&d); err != nil {
		return nil, err
	}
	_, err := s.Pool.Exec(ctx, `INSERT INTO domain (name, primaries, activation, scope, retention_days, outbound_networks,
			detect_failures, detect_storm, probe_seconds, recover_seconds) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		d.Name, d.Primaries, d.Activation, d.Scope, d.RetentionDays, d.OutboundNetworks,
		d.DetectFailures, d.DetectStorm, d.ProbeSeconds, d.RecoverSeconds)
	if err != nil {
		return nil, wrap("add domain "+d.Name, err)
	}
	return s.Domain(ctx, Everything, d.Name)
}

// DomainChange holds the settings to change; nil ones stay.
type DomainChange struct {
	Primaries        []string
	Activation       *directory.Activation
	Scope            *directory.Scope
	RetentionDays    *int
	OutboundNetworks []netip.Prefix // empty and not nil: none
	DetectFailures   *Own
	DetectStorm      *Own
	ProbeSeconds     *Own
	RecoverSeconds   *Own

	Actor string // who changes them, for the audit
}

// Own is a domain's own value of a setting that has a default; nil is to have
// none.
type Own struct{ Value *int }

// SetDomain changes settings of a domain. The mode is changed by SwitchMode.
func (s *Store) SetDomain(ctx context.Context, name string, c DomainChange) (*Domain, error) {
	err := s.tx(ctx, func(tx pgx.Tx) error {
		var d directory.Domain
		err := tx.QueryRow(ctx, `SELECT name, primaries, activation, scope, retention_days, outbound_networks,
			detect_failures, detect_storm, probe_seconds, recover_seconds FROM domain WHERE name = $1 FOR UPDATE`, name).
			Scan(&d.Name, &d.Primaries, &d.Activation, &d.Scope, &d.RetentionDays, &d.OutboundNetworks,
				&d.DetectFailures, &d.DetectStorm, &d.ProbeSeconds, &d.RecoverSeconds)
		if err != nil {
			return err
		}
		days := d.RetentionDays
		c.apply(&d)
		if err := checkDomain(&d); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE domain SET primaries = $2, activation = $3, scope = $4, retention_days = $5,
			outbound_networks = $6, detect_failures = $7, detect_storm = $8, probe_seconds = $9, recover_seconds = $10 WHERE name = $1`,
			name, d.Primaries, d.Activation, d.Scope, d.RetentionDays, d.OutboundNetworks,
			d.DetectFailures, d.DetectStorm, d.ProbeSeconds, d.RecoverSeconds)
		if err == nil && d.RetentionDays != days {
			err = recordDomains(ctx, tx, c.Actor, ActionRetention, "", []string{name}, fmt.Sprintf("%d days, not %d", d.RetentionDays, days))
		}
		return err
	})
	if err != nil {
		return nil, wrap("set domain "+name, err)
	}
	return s.Domain(ctx, Everything, name)
}

func (c *DomainChange) apply(d *directory.Domain) {
	if c.Primaries != nil {
		d.Primaries = c.Primaries
	}
	if c.Activation != nil {
		d.Activation = *c.Activation
	}
	if c.Scope != nil {
		d.Scope = *c.Scope
	}
	if c.RetentionDays != nil {
		d.RetentionDays = *c.RetentionDays
	}
	if c.OutboundNetworks != nil {
		d.OutboundNetworks = slices.Clone(c.OutboundNetworks)
	}
	for _, own := range []struct {
		to   *Own
		from **int
	}{{c.DetectFailures, &d.DetectFailures}, {c.DetectStorm, &d.DetectStorm}, {c.ProbeSeconds, &d.ProbeSeconds}, {c.RecoverSeconds, &d.RecoverSeconds}} {
		if own.to != nil {
			*own.from = own.to.Value
		}
	}
}

// DomainContents counts what goes when a domain is removed.
type DomainContents struct {
	Mailboxes int `db:"mailboxes" json:"mailboxes"`
	Aliases   int `db:"aliases" json:"aliases"`
	Timeline  int `db:"timeline" json:"timeline"`
	Admins    int `db:"admins" json:"admins"` // accounts that lose it
}

// DomainContents returns what RemoveDomain would delete.
func (s *Store) DomainContents(ctx context.Context, name string) (*DomainContents, error) {
	rows, err := s.Pool.Query(ctx, `SELECT (SELECT count(*) FROM mailbox WHERE domain_id = d.id) AS mailboxes,
		(SELECT count(*) FROM alias WHERE domain_id = d.id) AS aliases,
		(SELECT count(*) FROM mode_change WHERE domain_id = d.id) AS timeline,
		(SELECT count(*) FROM account_domain WHERE domain_id = d.id) AS admins FROM domain d WHERE d.name = $1`, name)
	if err != nil {
		return nil, wrap("domain "+name, err)
	}
	c, err := pgx.CollectExactlyOneRow(rows, pgx.RowToAddrOfStructByName[DomainContents])
	return c, wrap("domain "+name, err)
}

// RemoveDomain deletes a domain with its mailboxes, aliases and timeline.
// The archive keeps its messages until they expire.
func (s *Store) RemoveDomain(ctx context.Context, name string) error {
	tag, err := s.Pool.Exec(ctx, `DELETE FROM domain WHERE name = $1`, name)
	return one("remove domain "+name, tag.RowsAffected(), err)
}

// one turns a statement that should have met a row and did not into
// ErrNotFound.
func one(doing string, affected int64, err error) error {
	if err == nil && affected == 0 {
		return fmt.Errorf("%s: %w", doing, ErrNotFound)
	}
	return wrap(doing, err)
}
