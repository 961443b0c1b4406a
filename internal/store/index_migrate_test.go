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
	if _, err := provider.UpTo(ctx, 7); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		`INSERT INTO domain (name, primaries, retention_days) VALUES ('example.test', '{127.0.0.1:25}', 7)`,
		`SELECT ensure_message_partition('2026-03-01'), ensure_message_partition('2026-03-02')`,
		`INSERT INTO segment (name, indexed, sealed) VALUES ('s1', 100, true)`,
		`INSERT INTO segment_mailbox VALUES ('s1', 'ana@example.test', 'example.test', '2026-03-01 10:00Z')`,
		`INSERT INTO message (id, received, direction, sender, recipients, subject, from_header, to_header, message_id, size, attachments, segment, seg_offset, seg_length, tsv)
			SELECT gen_random_uuid(), '2026-03-01 10:00Z', 'inbound', '', '{}', 'hello', '', '', '', 1, '{}', 's1', n, 1, 'hello'::tsvector FROM generate_series(1, 50) n`,
		`INSERT INTO message_mailbox SELECT received, id, 'ana@example.test', 'example.test' FROM message`,
		`INSERT INTO legal_hold (domain, actor, reason) VALUES ('example.test', 'op', 'why not')`,
	} {
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
	defer s.Close()
	if err := s.Ready(ctx); err != nil {
		t.Error(err)
	}
	if got, err := s.SegmentOffsets(ctx); err != nil || len(got) != 0 {
		t.Errorf("checkpoints %v, %v", got, err)
	}
	var rows, days, holds int
	err = s.Pool.QueryRow(ctx, `SELECT (SELECT count(*) FROM message) + (SELECT count(*) FROM message_mailbox), (SELECT max(days) FROM retention), (SELECT count(*) FROM legal_hold)`).
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
