package store

import (
	"io/fs"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

// TestMigratePostings: an index of before there were postings is dropped, with
// its checkpoints, and filled anew; all else stays.
func TestMigratePostings(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := migrated(t, 7,
		`INSERT INTO domain (name, primaries, retention_days) VALUES ('example.test', '{127.0.0.1:25}', 7)`,
		`SELECT ensure_message_partition('2026-03-01'), ensure_message_partition('2026-03-02')`,
		`INSERT INTO segment (name, indexed, sealed) VALUES ('s1', 100, true)`,
		`INSERT INTO segment_mailbox VALUES ('s1', 'ana@example.test', 'example.test', '2026-03-01 10:00Z')`,
		`INSERT INTO message (id, received, direction, sender, recipients, subject, from_header, to_header, message_id, size, attachments, segment, seg_offset, seg_length, tsv)
			SELECT gen_random_uuid(), '2026-03-01 10:00Z', 'inbound', '', '{}', 'hello', '', '', '', 1, '{}', 's1', n, 1, 'hello'::tsvector FROM generate_series(1, 50) n`,
		`INSERT INTO message_mailbox SELECT received, id, 'ana@example.test', 'example.test' FROM message`,
		`INSERT INTO legal_hold (domain, actor, reason) VALUES ('example.test', 'op', 'why not')`,
	)
	if err := s.Ready(ctx); err != nil {
		t.Error(err)
	}
	if got, err := s.SegmentOffsets(ctx); err != nil || len(got) != 0 {
		t.Errorf("checkpoints %v, %v", got, err)
	}
	var rows, days, holds int
	err := s.Pool.QueryRow(ctx, `SELECT (SELECT count(*) FROM message) + (SELECT count(*) FROM message_mailbox), (SELECT max(days) FROM retention), (SELECT count(*) FROM legal_hold)`).
		Scan(&rows, &days, &holds)
	if err != nil || rows != 0 || days != 7 || holds != 1 {
		t.Errorf("%d rows, retention of %d days, %d holds, %v", rows, days, holds, err)
	}
	if err := s.IndexBatch(ctx, IndexBatch{Segment: "s1", To: 30, Messages: sample(3)}); err != nil {
		t.Fatal(err)
	}
	found, _, err := s.SearchMessages(ctx, MessageFilter{Access: Access{All: true}, Query: parse(t, "word2")})
	if err != nil || len(found) != 1 {
		t.Errorf("%d found, %v", len(found), err)
	}
}

// TestMigrateRetention: what an installation had before there was retention by
// domain stays, its index is filled anew, and each domain's word on retention
// is taken over and followed.
func TestMigrateRetention(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := migrated(t, 4,
		`INSERT INTO domain (name, primaries, retention_days) VALUES ('short.test', '{127.0.0.1:25}', 7), ('long.test', '{127.0.0.1:25}', 3650)`,
		`INSERT INTO mailbox (domain_id, address) SELECT id, 'ana@' || name FROM domain`,
		`INSERT INTO account (login, role, hash) VALUES ('adm', 'admin', 'x')`,
		`INSERT INTO account_domain SELECT a.id, d.id FROM account a, domain d`,
		`SELECT ensure_message_partition('2026-03-01')`,
		`INSERT INTO segment (name, indexed, sealed) VALUES ('s1', 100, true)`,
		`INSERT INTO message (id, received, direction, sender, recipients, subject, from_header, to_header, message_id, size, attachments, segment, seg_offset, seg_length, tsv)
			SELECT gen_random_uuid(), '2026-03-01 10:00Z', 'inbound', '', '{}', 'hello', '', '', '', 1, '{}', 's1', n, 1, 'hello'::tsvector FROM generate_series(1, 50) n`,
		`INSERT INTO message_mailbox SELECT received, id, 'ana@short.test', 'short.test' FROM message`,
	)
	text := func(sql string) (out string) {
		t.Helper()
		if err := s.Pool.QueryRow(ctx, sql).Scan(&out); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		return out
	}
	const kept = `SELECT string_agg(domain || ' ' || days, ', ' ORDER BY domain) FROM retention`
	if got := text(kept); got != "long.test 3650, short.test 7" {
		t.Errorf("retention: %s", got)
	}
	if got := text(`SELECT concat_ws(' ', (SELECT count(*) FROM domain), (SELECT count(*) FROM mailbox), (SELECT count(*) FROM account_domain), (SELECT count(*) FROM message),
		(SELECT count(*) FROM message_mailbox), (SELECT count(*) FROM segment))`); got != "2 2 2 0 0 0" {
		t.Errorf("domains, mailboxes, admins' domains, messages, theirs, segments: %s", got)
	}
	if _, err := s.Pool.Exec(ctx, `UPDATE domain SET retention_days = 30 WHERE name = 'short.test'`); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Pool.Exec(ctx, `DELETE FROM domain WHERE name = 'long.test'`); err != nil {
		t.Fatal(err)
	}
	if got := text(kept); got != "long.test 3650, short.test 30" { // a removed domain keeps its last word
		t.Errorf("retention after changes: %s", got)
	}
	if err := s.IndexBatch(ctx, IndexBatch{Segment: "s1", To: 30, Messages: sample(3)}); err != nil {
		t.Error(err)
	}
}

// migrated is a database that was at a version, had these rows then, and is
// now as it must be.
func migrated(t *testing.T, version int64, rows ...string) *Store {
	t.Helper()
	ctx, name := t.Context(), cluster.Database(t)
	owner, err := pgxpool.ParseConfig(cluster.URL("understudy", name))
	if err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.NewWithConfig(ctx, owner)
	if err != nil {
		t.Fatal(err)
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		t.Fatal(err)
	}
	db := stdlib.OpenDBFromPool(pool)
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.UpTo(ctx, version); err != nil {
		t.Fatal(err)
	}
	for _, sql := range rows {
		if _, err := pool.Exec(ctx, sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	db.Close()
	pool.Close()
	if _, err := Migrate(ctx, owner); err != nil {
		t.Fatal(err)
	}
	cfg, err := pgxpool.ParseConfig(cluster.URL("understudy_app", name))
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}
