package directory

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// The only SQL outside internal/store: SELECTs on the directory tables, for
// the mail services that must not depend on the store.
const (
	// Triggers come last in a restore: without them the tables may be empty still.
	selectPast = `SELECT epoch::text, coalesce((SELECT mark::text FROM directory_mark ORDER BY version DESC LIMIT 1), ''),
		EXISTS (SELECT FROM directory_mark WHERE mark = nullif($1, '')::uuid),
		EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'domain'::regclass AND tgname = 'z_mark') FROM directory_epoch`
	selectDomains = `SELECT id, name, primaries, activation, scope, mode, mode_since, mode_manual, primary_failing,
		retention_days, outbound_networks, detect_failures, detect_storm, probe_seconds, recover_seconds, version FROM domain WHERE version > $1`
	selectMailboxes   = `SELECT id, domain_id, address, name, covered, enabled, quota_bytes, refused, version FROM mailbox WHERE version > $1`
	selectAliases     = `SELECT id, domain_id, address, mailbox_id, refused, version FROM alias WHERE version > $1`
	selectCredentials = `SELECT id, mailbox_id, kind, label, hash, version FROM credential WHERE version > $1`
	// A role that may not see password hashes asks without.
	selectOutbound     = `SELECT id, name, domain_ids, enabled, per_hour, per_day, version, '' AS hash FROM outbound_account WHERE version > $1`
	selectOutboundAuth = `SELECT id, name, domain_ids, enabled, per_hour, per_day, version, hash FROM outbound_account WHERE version > $1`
	selectLimits       = `SELECT id, mailbox_per_hour, mailbox_per_day, network_per_hour, network_per_day, version FROM send_limit WHERE version > $1`
	selectDeleted      = `SELECT kind, id, version FROM directory_deleted WHERE version > $1`
)

// errRestoring: what is there is not yet what is meant.
var errRestoring = errors.New("the database is being restored")

// past says up to where a directory and the database have the same changes.
type past struct {
	epoch   string // of the database
	mark    string // of the newest change; another database, or another history, has another
	version int64
}

// reader reads the directory in one snapshot of the database.
type reader struct {
	tx    pgx.Tx
	since int64
	alive func() // called with each row
}

// query reads all rows of a SELECT whose one argument is the version seen.
func query[T any](ctx context.Context, r *reader, sql string) ([]*T, error) {
	rows, err := r.tx.Query(ctx, sql, r.since)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (*T, error) {
		r.alive()
		return pgx.RowToAddrOfStructByName[T](row)
	})
}

// begin finds out whether the database still has what was seen of it; if not,
// the change is a full one.
func (r *reader) begin(ctx context.Context, seen past) (*Change, error) {
	c := &Change{}
	var known, whole bool
	err := r.tx.QueryRow(ctx, selectPast, seen.mark).Scan(&c.Epoch, &c.Mark, &known, &whole)
	switch {
	case errors.Is(err, pgx.ErrNoRows) || err == nil && (!whole || c.Mark == ""):
		return nil, errRestoring
	case err != nil:
		return nil, fmt.Errorf("read directory epoch: %w", err)
	}
	if c.Full = !known || c.Epoch != seen.epoch; !c.Full {
		r.since = seen.version
	}
	c.Version = r.since
	return c, nil
}

// read fetches what changed since then. It calls alive with each row.
func read(ctx context.Context, conn *pgx.Conn, seen past, credentials bool, alive func()) (*Change, error) {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, fmt.Errorf("read directory: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // read only
	r := &reader{tx: tx, alive: alive}
	c, err := r.begin(ctx, seen)
	if err != nil {
		return nil, err
	}
	var deleted []*Deleted
	outbound := selectOutbound
	if credentials {
		outbound = selectOutboundAuth
	}
	load := []func() error{
		func() (err error) { c.Domains, err = query[Domain](ctx, r, selectDomains); return },
		func() (err error) { c.Mailboxes, err = query[Mailbox](ctx, r, selectMailboxes); return },
		func() (err error) { c.Aliases, err = query[Alias](ctx, r, selectAliases); return },
		func() (err error) { c.Outbound, err = query[OutboundAccount](ctx, r, outbound); return },
		func() (err error) { c.Limits, err = query[SendLimit](ctx, r, selectLimits); return },
		func() (err error) { deleted, err = query[Deleted](ctx, r, selectDeleted); return },
	}
	if credentials {
		load = append(load, func() (err error) {
			c.Credentials, err = query[Credential](ctx, r, selectCredentials)
			return
		})
	}
	for _, f := range load {
		if err := f(); err != nil {
			return nil, fmt.Errorf("read directory: %w", err)
		}
	}
	for _, x := range deleted {
		c.Version = max(c.Version, x.Version)
		if !c.Full {
			c.Deleted = append(c.Deleted, *x)
		}
	}
	for _, x := range c.Domains {
		c.Version = max(c.Version, x.Version)
	}
	for _, x := range c.Mailboxes {
		c.Version = max(c.Version, x.Version)
	}
	for _, x := range c.Aliases {
		c.Version = max(c.Version, x.Version)
	}
	for _, x := range c.Outbound {
		c.Version = max(c.Version, x.Version)
	}
	for _, x := range c.Limits {
		c.Version = max(c.Version, x.Version)
	}
	for _, x := range c.Credentials {
		c.Version = max(c.Version, x.Version)
	}
	return c, nil
}
