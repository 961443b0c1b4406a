package directory

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// The only SQL outside internal/store: SELECTs on the directory tables, for
// the mail services that must not depend on the store.
const (
	selectEpoch   = `SELECT epoch::text FROM directory_epoch`
	selectDomains = `SELECT id, name, primaries, activation, scope, mode, mode_since, mode_manual, primary_failing,
		retention_days, outbound_networks, detect_failures, detect_storm, probe_seconds, recover_seconds, version FROM domain WHERE version > $1`
	selectMailboxes   = `SELECT id, domain_id, address, name, covered, enabled, quota_bytes, version FROM mailbox WHERE version > $1`
	selectAliases     = `SELECT id, domain_id, address, mailbox_id, version FROM alias WHERE version > $1`
	selectCredentials = `SELECT id, mailbox_id, kind, label, hash, version FROM credential WHERE version > $1`
	// A role that may not see password hashes asks without.
	selectOutbound     = `SELECT id, name, domain_ids, enabled, per_hour, per_day, version, '' AS hash FROM outbound_account WHERE version > $1`
	selectOutboundAuth = `SELECT id, name, domain_ids, enabled, per_hour, per_day, version, hash FROM outbound_account WHERE version > $1`
	selectLimits       = `SELECT id, mailbox_per_hour, mailbox_per_day, network_per_hour, network_per_day, version FROM send_limit WHERE version > $1`
	selectDeleted      = `SELECT kind, id, version FROM directory_deleted WHERE version > $1`
)

// query reads all rows of a SELECT whose one argument is the version seen.
func query[T any](ctx context.Context, tx pgx.Tx, sql string, since int64) ([]*T, error) {
	rows, err := tx.Query(ctx, sql, since)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToAddrOfStructByName[T])
}

// read fetches what changed since (epoch, since) in one snapshot of the
// database.
func read(ctx context.Context, conn *pgx.Conn, epoch string, since int64, credentials bool) (*Change, error) {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, fmt.Errorf("read directory: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // read only
	c := &Change{}
	if err := tx.QueryRow(ctx, selectEpoch).Scan(&c.Epoch); err != nil {
		return nil, fmt.Errorf("read directory epoch: %w", err)
	}
	if c.Full = c.Epoch != epoch; c.Full {
		since = 0
	}
	c.Version = since
	var deleted []*Deleted
	outbound := selectOutbound
	if credentials {
		outbound = selectOutboundAuth
	}
	load := []func() error{
		func() (err error) { c.Domains, err = query[Domain](ctx, tx, selectDomains, since); return },
		func() (err error) { c.Mailboxes, err = query[Mailbox](ctx, tx, selectMailboxes, since); return },
		func() (err error) { c.Aliases, err = query[Alias](ctx, tx, selectAliases, since); return },
		func() (err error) { c.Outbound, err = query[OutboundAccount](ctx, tx, outbound, since); return },
		func() (err error) { c.Limits, err = query[SendLimit](ctx, tx, selectLimits, since); return },
		func() (err error) { deleted, err = query[Deleted](ctx, tx, selectDeleted, since); return },
	}
	if credentials {
		load = append(load, func() (err error) {
			c.Credentials, err = query[Credential](ctx, tx, selectCredentials, since)
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
