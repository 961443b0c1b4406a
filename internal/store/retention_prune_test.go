package store

import (
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
