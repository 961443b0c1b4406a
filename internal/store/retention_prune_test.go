package store

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
)

// TestPrune: what was finished long ago is forgotten, what was not finished,
// or lately, stays.
func TestPrune(t *testing.T) {
	t.Parallel()
	s, now := newStore(t), time.Now()
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := s.Pool.Exec(t.Context(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	count := func(table string) (n int64) {
		t.Helper()
		if err := s.Pool.QueryRow(t.Context(), `SELECT count(*) FROM `+table).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, x := range []struct {
		state    string
		finished time.Duration // ago; 0: not
	}{{"done", KeepRedeliveries + time.Hour}, {"done", KeepRedeliveries - time.Hour}, {"sending", 0}} {
		var at *time.Time
		if x.finished > 0 {
			f := now.Add(-x.finished)
			at = &f
		}
		exec(`WITH r AS (INSERT INTO redelivery (actor, access, state, at, finished_at) VALUES ('op', '{}', $1, $2, $3) RETURNING id)
			INSERT INTO redelivery_item (redelivery, message, mailbox) SELECT id, gen_random_uuid(), 'a@b.test' FROM r, generate_series(1, 3)`,
			x.state, now.AddDate(-2, 0, 0), at)
	}
	exec(`INSERT INTO redelivery_item (redelivery, message, mailbox) SELECT min(id), gen_random_uuid(), 'a@b.test' FROM redelivery, generate_series(1, $1)`, pruneBatch)
	for _, ago := range []time.Duration{KeepAudit + time.Hour, KeepAudit - time.Hour, 0} {
		exec(`INSERT INTO audit (at, actor, action, message, mailbox, domain) SELECT $1, 'op', 'view', $2, 'a@b.test', 'b.test'`, now.Add(-ago), uuid.New())
	}
	for i, want := range []int64{1, 0} {
		redeliveries, audit, err := s.Prune(t.Context(), now)
		if err != nil || redeliveries != want || audit != want {
			t.Errorf("run %d: %d redeliveries, %d lines, %v; want %d of each", i, redeliveries, audit, err, want)
		}
		if r, items, lines := count("redelivery"), count("redelivery_item"), count("audit"); r != 2 || items != 6 || lines != 2 {
			t.Errorf("run %d: %d redeliveries with %d items and %d lines are left", i, r, items, lines)
		}
	}
}

// TestNeeded: the answers are those of the rule, in order.
func TestNeeded(t *testing.T) {
	t.Parallel()
	s, now := newStore(t), time.Now()
	setRetention(t, s, &world{days: map[string]int{}}, "example.test", 10)
	setRetention(t, s, &world{days: map[string]int{}}, "other.test", 30)
	if err := s.AddHold(t.Context(), "held@example.test", "op", "case"); err != nil {
		t.Fatal(err)
	}
	old, ancient := now.AddDate(0, 0, -15), now.AddDate(-11, 0, 0)
	got, err := s.Needed(t.Context(), now, []string{"ana@example.test", "ana@other.test", "held@example.test", "ana@example.test", "x@unknown.test", "x@unknown.test", ""},
		[]time.Time{old, old, ancient, now, old, ancient, ancient})
	want := []bool{false, true, true, true, true, false, true}
	if err != nil || len(got) != len(want) {
		t.Fatal(got, err)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("message %d is needed: %v, want %v", i, got[i], want[i])
		}
	}
}

// TestUnknownIsKept: what belongs to nobody known is kept as long as anything,
// and a clock that runs ahead drops nothing.
func TestUnknownIsKept(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), t.Context()
	w := &world{days: map[string]int{}}
	setRetention(t, s, w, "example.test", 10)
	setRetention(t, s, w, "other.test", 20)
	now := time.Now()
	m := sample(1)
	m[0].Received = now.AddDate(0, 0, -15)
	m[0].Mailboxes = []string{"ana@example.test"}
	for i, b := range []IndexBatch{{To: 10, Sealed: true, Messages: m}, {To: 10, Sealed: true, Damaged: 5}, {To: 10, Sealed: true, LeftOut: true},
		{To: 10, Messages: m}, {To: 10, Sealed: true}} {
		b.Segment = fmt.Sprintf("s%d", i)
		if err := s.IndexBatch(ctx, b); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.ExpiredSegments(ctx, now)
	if err != nil || len(got) != 1 || got[0].Segment != "s0" {
		t.Errorf("expired %+v, %v; want s0: the others are damaged, not indexed whole, not sealed or empty", got, err)
	}
	broken := errors.New("read-only disk")
	if ok, err := s.ExpireSegment(ctx, "s0", now, func() error { return broken }); ok || !errors.Is(err, broken) {
		t.Errorf("got %v, %v", ok, err)
	}
	if got, err := s.ExpiredSegments(ctx, now); err != nil || len(got) != 1 {
		t.Errorf("after trouble: %+v, %v", got, err)
	}
	if err := s.AddHold(ctx, "ana@example.test", "x", "y"); err != nil {
		t.Fatal(err)
	}
	if got, err := s.ExpiredSegments(ctx, now); err != nil || len(got) != 0 {
		t.Errorf("held: %+v, %v", got, err)
	}
	if err := s.EndHold(ctx, "ana@example.test", "x"); err != nil {
		t.Fatal(err)
	}
	setRetention(t, s, w, "example.test", 30)
	if ok, err := s.DropExpiredDay(ctx, m[0].Received.UTC(), now.AddDate(10, 0, 0)); ok || err != nil {
		t.Errorf("by a clock that runs ahead: %v, %v", ok, err)
	}
}
