package store

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// TestMend: what the index lacks of messages that it has is told, and added when
// they are indexed once more; what it does not lack stays as it is.
func TestMend(t *testing.T) {
	t.Parallel()
	const n = ownMessages + 5
	for _, c := range []struct {
		name, damage string
		unfound      func(i int) int // words that do not find message i
	}{
		{"nothing", `SELECT`, func(int) int { return 0 }},
		{"a word of one", `DELETE FROM posting_20260301 WHERE word = 'word17'`, func(i int) int { return count(i == 17) }},
		{"a word of one that is recent", `DELETE FROM posting_recent WHERE word = 'word203'`, func(i int) int { return count(i == 203) }},
		{"a word of all", `DELETE FROM posting_20260301 WHERE word = 'text'`, func(i int) int { return count(i < ownMessages) }},
		{"a field of all", fmt.Sprintf(`DELETE FROM posting_20260301 WHERE field = %d`, ofSize), func(i int) int { return count(i < ownMessages) }},
		{"all that is recent", `TRUNCATE posting_recent`, func(i int) int { return 26 * count(i >= ownMessages) }},
		{"all", `TRUNCATE posting_recent, posting_20260301`, func(int) int { return 26 }},
		{"mailboxes", `DELETE FROM message_mailbox WHERE mailbox = 'bcc@other.test'`, func(int) int { return 0 }},
		{"mailboxes and words", `TRUNCATE message_mailbox, posting_20260301`, func(i int) int { return 26 * count(i < ownMessages) }},
		{"a word, after a message of its own was dropped", `DELETE FROM posting_20260301 WHERE word = 'text'; DELETE FROM message WHERE subject = 'Número 3'`,
			func(i int) int { return count(i < ownMessages && i != 3) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			ctx := t.Context()
			m := sample(n)
			write := func(from, to int) {
				t.Helper()
				if err := s.IndexBatch(ctx, IndexBatch{Segment: "s1", From: int64(from), To: int64(to), Messages: m[from:to]}); err != nil {
					t.Fatal(err)
				}
			}
			write(0, ownMessages)
			write(ownMessages, n)
			before := s.shape(t)
			if _, err := as(t, "understudy", s).Pool.Exec(ctx, c.damage); err != nil {
				t.Fatal(err)
			}
			unfound, err := s.Unfound(ctx, m)
			if err != nil {
				t.Fatal(err)
			}
			for i := range m {
				if got := unfound[m[i].ID]; got != c.unfound(i) {
					t.Fatalf("%d words do not find message %d, not %d", got, i, c.unfound(i))
				}
			}
			if err := s.ForgetCheckpoints(ctx, []string{"s1"}); err != nil {
				t.Fatal(err)
			}
			write(0, 100)
			write(100, n)
			if unfound, err = s.Unfound(ctx, m); err != nil || len(unfound) > 0 {
				t.Errorf("%d messages are not found afterwards, %v", len(unfound), err)
			}
			if after := s.shape(t); c.name == "nothing" && after != before {
				t.Errorf("in vain: %s, not %s", after, before)
			}
			findable(t, s, m)
			if _, err := s.Pool.Exec(ctx, `SELECT compact_index_day('2026-03-01')`); err != nil {
				t.Fatal(err)
			}
			findable(t, s, m)
		})
	}
}

// findable checks that searches find messages of sample as they should.
func findable(t *testing.T, s *Store, m []IndexedMessage) {
	t.Helper()
	for _, access := range []Access{{All: true}, {Domains: []string{"other.test"}}, {Mailbox: "bcc@other.test"}} {
		for q, want := range map[string]int{`"text word17"`: 17, `word203`: 203, `subject:"Número 3"`: 3, `from:jose@internet.test word5 size:<101`: 5} {
			rows, _, err := s.SearchMessages(t.Context(), MessageFilter{Access: access, Query: parse(t, q)})
			if err != nil || len(rows) != 1 || rows[0].ID != m[want].ID {
				t.Errorf("%+v: %s: %d found, %v", access, q, len(rows), err)
			}
		}
		rows, _, err := s.SearchMessages(t.Context(), MessageFilter{Access: access, Query: parse(t, "text"), Limit: 500})
		if err != nil || len(rows) != len(m) || !slices.IsSortedFunc(rows, func(a, b MessageRow) int { return b.Received.Compare(a.Received) }) {
			t.Errorf("%+v: %d found, or in another order, %v", access, len(rows), err)
		}
	}
}

func count(is bool) int {
	if is {
		return 1
	}
	return 0
}

// shape is how much the index holds.
func (s *Store) shape(t *testing.T) (out string) {
	t.Helper()
	err := s.Pool.QueryRow(t.Context(), `SELECT concat_ws(' ', (SELECT count(*) FROM message), (SELECT count(*) FROM message_mailbox), (SELECT count(*) FROM posting_20260301),
		(SELECT count(*) FROM posting_recent), (SELECT next FROM index_day))`).Scan(&out)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestMendLeavesAlone: a message that the index has of another record, or by its
// envelope alone, or not at all, lacks nothing.
func TestMendLeavesAlone(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ctx := t.Context()
	m := sample(4)
	m[1].EnvelopeOnly()
	if err := s.IndexBatch(ctx, IndexBatch{Segment: "s1", To: 1, Messages: m[:3]}); err != nil {
		t.Fatal(err)
	}
	whole := sample(2)[1]
	m[1].Subject, m[1].Text, m[1].FromHeader = whole.Subject, whole.Text, whole.FromHeader
	m[2].Offset, m[2].Text, m[2].Mailboxes = 1000, "something else", []string{"dora@example.test"}
	m[3].Received = day.AddDate(0, 0, 5) // there is no such day
	if unfound, err := s.Unfound(ctx, m); err != nil || len(unfound) > 0 {
		t.Errorf("%v, %v", unfound, err)
	}
	before := s.shape(t)
	if err := s.IndexBatch(ctx, IndexBatch{Segment: "s1", From: 1, To: 2, Messages: m[:3]}); err != nil {
		t.Fatal(err)
	}
	if after := s.shape(t); after != before {
		t.Errorf("%s, not %s", after, before)
	}
	if _, err := as(t, "understudy", s).Pool.Exec(ctx, `DELETE FROM posting_recent WHERE field = $1`, ofKind); err != nil {
		t.Fatal(err)
	}
	unfound, err := s.Unfound(ctx, m)
	if want := map[uuid.UUID]int{m[0].ID: 2, m[1].ID: 1}; err != nil || len(unfound) != 2 || unfound[m[0].ID] != want[m[0].ID] || unfound[m[1].ID] != want[m[1].ID] {
		t.Errorf("%v, not %v, %v", unfound, want, err)
	}
}

// TestDroppedWhileIndexedAgain: messages that were there already, and are
// dropped before they are written once more, are not taken for known.
func TestDroppedWhileIndexedAgain(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ctx := t.Context()
	m := sample(3)
	if err := s.EnsurePartitions(ctx, day); err != nil {
		t.Fatal(err)
	}
	indexed, dropped := make(chan error, 1), make(chan error, 1)
	err := s.tx(ctx, func(tx pgx.Tx) error { // another indexer has the same
		if _, err := tx.Exec(ctx, `INSERT INTO segment (name) VALUES ('s0')`); err != nil {
			return err
		}
		for _, d := range byDay(m) {
			d.post()
			if err := d.write(ctx, tx); err != nil {
				return err
			}
		}
		go func() { indexed <- s.IndexBatch(ctx, IndexBatch{Segment: "s1", To: 30, Messages: m}) }()
		waitForLock(t, s, 1)
		go func() {
			_, err := s.DropIndex(ctx, []string{"s0", "s1"})
			dropped <- err
		}()
		waitForLock(t, s, 2)
		return nil
	})
	if err := errors.Join(err, <-indexed, <-dropped); err != nil {
		t.Fatal(err)
	}
	var rows, checkpoints int
	err = s.Pool.QueryRow(ctx, `SELECT (SELECT count(*) FROM message), (SELECT count(*) FROM segment WHERE indexed > 0)`).Scan(&rows, &checkpoints)
	if err != nil || rows != checkpoints*len(m) {
		t.Errorf("%d messages, but %d segments are said to be indexed, %v", rows, checkpoints, err)
	}
}
