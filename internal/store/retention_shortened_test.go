package store

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// archived indexes one message of ana@example.test in a segment of its own.
func archived(t *testing.T, s *Store, segment string, received time.Time) IndexedMessage {
	t.Helper()
	m := sample(1)
	m[0].Segment, m[0].Received, m[0].Mailboxes = segment, received.Truncate(time.Microsecond), []string{"ana@example.test"}
	if err := s.IndexBatch(t.Context(), IndexBatch{Segment: segment, To: 10, Sealed: true, Messages: m}); err != nil {
		t.Fatal(err)
	}
	return m[0]
}

// expiry says whether a segment and a day go at a time, and lets them.
func expiry(t *testing.T, s *Store, segment string, day, at time.Time) (removed, dropped bool) {
	t.Helper()
	list, err := s.ExpiredSegments(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	removed, err = s.ExpireSegment(t.Context(), segment, at, func() error { return nil })
	if err != nil || removed != (len(list) == 1) {
		t.Errorf("segment removed: %v, %v; listed: %v", removed, err, list)
	}
	dropped, err = s.DropExpiredDay(t.Context(), day.UTC(), at)
	if err != nil {
		t.Fatal(err)
	}
	return removed, dropped
}

// TestShortened: a shorter retention hides at once and removes a week later;
// the longest one of that week counts. It is noted who shortened it.
func TestShortened(t *testing.T) {
	t.Parallel()
	s, ctx, now := newStore(t), t.Context(), time.Now()
	setRetention(t, s, &world{days: map[string]int{}}, "example.test", 365)
	m := archived(t, s, "s1", now.AddDate(0, 0, -100))
	seen := func() bool {
		t.Helper()
		_, err := s.Message(ctx, Access{Mailbox: "ana@example.test"}, m.ID)
		if err != nil && !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		return err == nil
	}
	set := func(days int) *Domain {
		t.Helper()
		d, err := s.SetDomain(ctx, "example.test", DomainChange{RetentionDays: &days, Actor: "adm"})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	stays := func(when string) {
		t.Helper()
		if removed, dropped := expiry(t, s, "s1", m.Received, time.Now()); removed || dropped {
			t.Errorf("%s: segment removed %v, day dropped %v", when, removed, dropped)
		}
	}
	if d := set(365); d.KeptDays != nil || d.KeptUntil != nil {
		t.Errorf("not shortened: %v until %v", d.KeptDays, d.KeptUntil)
	}
	for _, days := range []int{90, 3, 5} { // the longest of all of them counts
		d := set(days)
		if d.KeptDays == nil || *d.KeptDays != 365 || d.KeptUntil == nil || d.KeptUntil.Before(now.AddDate(0, 0, 7).Add(-time.Hour)) {
			t.Errorf("shortened: %v until %v", d.KeptDays, d.KeptUntil)
		}
		if seen() {
			t.Error("it is not hidden")
		}
		stays("shortened")
	}
	if d := set(400); d.KeptDays != nil || !seen() {
		t.Errorf("longer again: %v, seen %v", d.KeptDays, seen())
	}
	set(3)
	for _, until := range []string{"now() + interval '1 hour'", "now()"} {
		stays("in the week")
		if _, err := s.Pool.Exec(ctx, `UPDATE retention SET longer_until = `+until); err != nil {
			t.Fatal(err)
		}
	}
	if removed, dropped := expiry(t, s, "s1", m.Received, time.Now()); !removed || !dropped {
		t.Errorf("after a week: segment removed %v, day dropped %v", removed, dropped)
	}
	lines, err := s.Audit(ctx, "example.test", 0, 10)
	if err != nil || len(lines) != 5 {
		t.Fatal(lines, err)
	}
	if l := lines[4]; l.Actor != "adm" || l.Action != ActionRetention || l.Detail != "90 days, not 365" || l.Message != uuid.Nil || l.Mailbox != "" {
		t.Errorf("audit: %+v", l)
	}
}

// TestFastClock: a gateway whose clock is far ahead removes and forgets
// nothing.
func TestFastClock(t *testing.T) {
	t.Parallel()
	s, ctx, now := newStore(t), t.Context(), time.Now()
	setRetention(t, s, &world{days: map[string]int{}}, "example.test", 10)
	young := archived(t, s, "s1", now.AddDate(0, 0, -5))
	if removed, dropped := expiry(t, s, "s1", young.Received, now.AddDate(5, 0, 0)); removed || dropped {
		t.Errorf("segment removed %v, day dropped %v", removed, dropped)
	}
	if err := s.RecordExport(ctx, "op", "", []string{"example.test"}, ""); err != nil {
		t.Fatal(err)
	}
	if _, audit, err := s.Prune(ctx, now.AddDate(5, 0, 0)); audit != 0 || err != nil {
		t.Errorf("%d lines of the audit forgotten, %v", audit, err)
	}
}

// TestRecordRows: each row says whether its bytes must be there, and how many
// mailboxes see it.
func TestRecordRows(t *testing.T) {
	t.Parallel()
	s, ctx, now := newStore(t), t.Context(), time.Now()
	setRetention(t, s, &world{days: map[string]int{}}, "example.test", 10)
	setRetention(t, s, &world{days: map[string]int{}}, "long.test", 100)
	if err := s.AddHold(ctx, "held@example.test", "op", "case"); err != nil {
		t.Fatal(err)
	}
	type answer struct {
		Mailboxes int
		Kept      bool
	}
	want := map[string]answer{}
	for segment, x := range map[string]struct {
		mailboxes []string
		age       int // days
		kept      bool
	}{
		"young":   {[]string{"ana@example.test"}, 5, true},
		"old":     {[]string{"ana@example.test"}, 20, false},
		"both":    {[]string{"ana@example.test", "b@long.test", "b@long.test"}, 20, true},
		"held":    {[]string{"held@example.test"}, 20, true},
		"nobody":  {nil, 200, true}, // while there is a hold
		"unknown": {[]string{"x@unknown.test"}, 200, true},
	} {
		m := sample(1)
		m[0].Segment, m[0].Received, m[0].Mailboxes = segment, now.AddDate(0, 0, -x.age), x.mailboxes
		if err := s.IndexBatch(ctx, IndexBatch{Segment: segment, To: 10, Sealed: true, Messages: m}); err != nil {
			t.Fatal(err)
		}
		boxes, _ := WantedRow(&IndexedMessage{Mailboxes: x.mailboxes})
		want[segment] = answer{boxes, x.kept}
	}
	check := func() {
		t.Helper()
		got := map[string]answer{}
		err := s.EachRecordRow(ctx, func(r RecordRow) error { got[r.Segment] = answer{r.Mailboxes, r.Kept}; return nil })
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Error(diff, err)
		}
	}
	check()
	if err := s.EndHold(ctx, "held@example.test", "op"); err != nil {
		t.Fatal(err)
	}
	want["held"], want["nobody"] = answer{1, false}, answer{0, false}
	check()
	named, err := s.RowSegments(ctx)
	if err != nil || len(named) != len(want) || !named["both"] {
		t.Errorf("%v, %v", named, err)
	}
}
