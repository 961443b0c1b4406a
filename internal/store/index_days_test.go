package store

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"understudy/internal/pgtest"
)

// withFewLocks is a store on a server of its own, and what takes all room of its
// table of locks but for so many.
func withFewLocks(t *testing.T, free int) (s *Store, fill func()) {
	t.Helper()
	c, err := pgtest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Remove(); err != nil {
			t.Error(err)
		}
	})
	name := c.Migrated(t, func(url string) error {
		cfg, err := pgxpool.ParseConfig(url)
		if err == nil {
			_, err = Migrate(context.Background(), cfg)
		}
		return err
	})
	cfg, err := pgxpool.ParseConfig(c.URL("understudy_app", name))
	if err != nil {
		t.Fatal(err)
	}
	if s, err = New(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, func() {
		conn, err := pgx.Connect(t.Context(), c.URL("postgres", name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
		n := 0
		for ; err == nil; n++ {
			_, err = conn.Exec(t.Context(), `SELECT pg_advisory_lock($1 * 100 + i) FROM generate_series(1, 100) i`, n)
		}
		if !isCode(err, "53200") || n*100 < 2*free {
			t.Fatalf("room for %d locks: %v", n*100, err)
		}
		if _, err := conn.Exec(t.Context(), `SELECT pg_advisory_unlock(i) FROM generate_series(1, $1) i`, free); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMoreDaysThanLocks: with a table of locks that has no room for all days,
// messages are found by their id and by their words, however old.
func TestMoreDaysThanLocks(t *testing.T) {
	t.Parallel()
	const days = 380                      // each has four tables and indexes of messages alone
	s, fill := withFewLocks(t, days*2-60) // for a look of a search, and not for message_mailbox and its index of all days
	begin := time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := 0; i < days; i += 10 {
		if _, err := s.Pool.Exec(t.Context(), `SELECT ensure_message_partition($1::date + i) FROM generate_series($2::int, $2 + 9) i`, begin, i); err != nil {
			t.Fatal(err)
		}
	}
	messages := sample(8)
	for i := range messages {
		m := &messages[i]
		m.Received = begin.AddDate(0, 0, i*(days-1)/7).Add(time.Hour)
		binary.BigEndian.PutUint64(m.ID[:8], uint64(m.Received.UnixMilli())<<16|0x7000)
		if i%2 == 0 {
			m.ID[6] = 0x80 // as of imported mail: without its time
		}
	}
	if err := s.IndexBatch(t.Context(), IndexBatch{Segment: "s", To: 1, Messages: messages}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Pool.Exec(t.Context(), `UPDATE index_day SET next = 1 WHERE next = 0`); err != nil { // as if their messages had expired
		t.Fatal(err)
	}
	fill()
	for i := range messages {
		if m, err := s.Message(t.Context(), Access{All: true}, messages[i].ID); err != nil || m.Offset != messages[i].Offset {
			t.Errorf("message %d: %+v, %v", i, m, err)
		}
	}
	one := alone(t, s)
	for range 10 { // a prepared statement is planned for all days when it is used again and again
		m := MessageRow{ID: messages[3].ID, Received: messages[3].Received}
		if err := one.RecordLook(t.Context(), "op", ActionView, Access{All: true}, &m, ""); err != nil {
			t.Fatal(err)
		}
		if domains, err := one.MessageDomains(t.Context(), []MessageRow{m}); err != nil || len(domains) != 2 {
			t.Fatal(domains, err)
		}
		if _, _, err := one.ScanRecipients(t.Context(), 5); err != nil {
			t.Fatal(err)
		}
	}
	if known, err := s.KnownMessages(t.Context(), []uuid.UUID{messages[0].ID, messages[1].ID, uuid.New()}); err != nil || len(known) != 2 {
		t.Errorf("%v are known, %v", known, err)
	}
	if unfound, err := s.Unfound(t.Context(), messages); err != nil || len(unfound) > 0 {
		t.Errorf("not found by some words: %v, %v", unfound, err)
	}
	if m, err := s.Message(t.Context(), Access{All: true}, uuid.New()); !errors.Is(err, ErrNotFound) {
		t.Errorf("no message: %+v, %v", m, err)
	}
	for text, want := range map[string]int{"-word7": 7, "id:" + messages[0].ID.String(): 1} {
		rows, _, err := s.SearchMessages(t.Context(), MessageFilter{Access: Access{All: true}, Query: parse(t, text)})
		if err != nil || len(rows) != want {
			t.Errorf("%s: %d found, want %d; %v", text, len(rows), want, err)
		}
	}
	if err := s.IndexBatch(t.Context(), IndexBatch{Segment: "again", To: 1, Messages: messages}); err != nil { // they are known
		t.Error(err)
	}
}
