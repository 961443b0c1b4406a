package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// HostHealth is the worker's last word on one primary host.
type HostHealth struct {
	Host      string    `db:"host" json:"host"`   // host:port
	Class     string    `db:"class" json:"class"` // see worker/detect
	Detail    string    `db:"detail" json:"detail"`
	Since     time.Time `db:"since" json:"since"` // of this class
	CheckedAt time.Time `db:"checked_at" json:"checked_at"`
}

// SaveHealth replaces what is known of a domain's hosts; a host whose class is
// the same keeps its Since. A domain that is gone is no error.
func (s *Store) SaveHealth(ctx context.Context, domain string, hosts []HostHealth) error {
	names := make([]string, len(hosts))
	batch := &pgx.Batch{}
	for i, h := range hosts {
		names[i] = h.Host
		batch.Queue(`INSERT INTO primary_health AS p (domain_id, host, class, detail, since, checked_at)
			SELECT id, $2, $3, $4, $5, $6 FROM domain WHERE name = $1
			ON CONFLICT (domain_id, host) DO UPDATE SET class = EXCLUDED.class, detail = EXCLUDED.detail, checked_at = EXCLUDED.checked_at,
				since = CASE WHEN p.class = EXCLUDED.class THEN p.since ELSE EXCLUDED.since END`,
			domain, h.Host, h.Class, h.Detail, h.Since, h.CheckedAt)
	}
	batch.Queue(`DELETE FROM primary_health p USING domain d WHERE d.id = p.domain_id AND d.name = $1 AND p.host <> ALL($2)`, domain, names)
	err := s.tx(ctx, func(tx pgx.Tx) error { return tx.SendBatch(ctx, batch).Close() })
	return wrap("save health of "+domain, err)
}

// Health returns what is known of a domain's hosts, by host.
func (s *Store) Health(ctx context.Context, domain string) ([]HostHealth, error) {
	rows, err := s.Pool.Query(ctx, `SELECT p.host, p.class, p.detail, p.since, p.checked_at
		FROM primary_health p JOIN domain d ON d.id = p.domain_id WHERE d.name = $1 ORDER BY p.host`, domain)
	if err != nil {
		return nil, wrap("read health of "+domain, err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByName[HostHealth])
	return out, wrap("read health of "+domain, err)
}

// SetPrimaryFailing tells the mail services, through the directory, whether a
// domain's primary fails. It writes only what changes.
func (s *Store) SetPrimaryFailing(ctx context.Context, domain string, failing bool) error {
	_, err := s.Pool.Exec(ctx, `UPDATE domain SET primary_failing = $2 WHERE name = $1 AND primary_failing <> $2`, domain, failing)
	return wrap("mark primary of "+domain, err)
}

// ConfirmPrimaryFailing says once more that a domain's primary fails: the mail
// services believe it for a while only.
func (s *Store) ConfirmPrimaryFailing(ctx context.Context, domain string) error {
	_, err := s.Pool.Exec(ctx, `UPDATE domain SET primary_failing = true WHERE name = $1 AND primary_failing`, domain)
	return wrap("confirm that the primary of "+domain+" fails", err)
}

// ReleaseJobs makes the jobs that a client of this name was running available
// again. Only for a client that has just started: it cannot be running any,
// so they are left from before it was killed.
func (s *Store) ReleaseJobs(ctx context.Context, client string) (int64, error) {
	tag, err := s.Pool.Exec(ctx, `UPDATE river_job SET state = 'available', scheduled_at = now(), max_attempts = greatest(max_attempts, attempt + 1)
		WHERE state = 'running' AND attempted_by[cardinality(attempted_by)] = $1`, client)
	return tag.RowsAffected(), wrap("release jobs of "+client, err)
}
