package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"understudy/internal/query"
)

// world is what the rule of retention says, in Go.
type world struct {
	days   map[string]int  // by domain
	longer map[string]int  // the longest of the last week, if it is not this one
	held   map[string]bool // domains and mailboxes
}

func (w *world) needed(mailbox string, received, at time.Time) bool {
	domain := domainOf(mailbox)
	return received.After(at.Add(-time.Duration(w.days[domain])*24*time.Hour)) || w.held[domain] || w.held[mailbox]
}

// anyKeeps says that a message must not be removed.
func (w *world) anyKeeps(m IndexedMessage, at time.Time) bool {
	return slices.ContainsFunc(m.Mailboxes, func(box string) bool {
		return w.needed(box, m.Received, at) || m.Received.After(at.Add(-time.Duration(w.longer[domainOf(box)])*24*time.Hour))
	})
}

// TestNothingNeededIsRemoved: random domains, retentions, holds and clock.
// What is needed is found and never removed, what is not is inaccessible on
// its day, and days and segments without anything needed, or needed by what
// the retention was within a week, go.
func TestNothingNeededIsRemoved(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			retentionWalk(t, rand.New(rand.NewPCG(seed, 7)))
		})
	}
}

func retentionWalk(t *testing.T, rng *rand.Rand) {
	s, ctx := newStore(t), t.Context()
	now := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -60) // walks on to the present at most; a walk is the same at any hour
	s.now = func() time.Time { return now }
	w := &world{days: map[string]int{}, longer: map[string]int{}, held: map[string]bool{}}
	var boxes []string
	for i := range 4 {
		name := fmt.Sprintf("d%d.test", i)
		setRetention(t, s, w, name, 1+rng.IntN(40))
		boxes = append(boxes, "a@"+name, "b@"+name)
	}
	messages, segments := map[uuid.UUID]IndexedMessage{}, map[string][]IndexedMessage{}
	for i := range 12 {
		b := IndexBatch{Segment: fmt.Sprintf("s%d", i), To: 10, Sealed: true}
		begin := now.Add(-time.Duration(rng.IntN(45*24)) * time.Hour)
		for range 1 + rng.IntN(4) {
			m := sample(1)[0]
			m.Segment, m.Received, m.Mailboxes = b.Segment, begin.Add(time.Duration(rng.IntN(36*60))*time.Minute), []string{boxes[rng.IntN(len(boxes))]}
			if rng.IntN(2) == 0 {
				m.Mailboxes = append(m.Mailboxes, boxes[rng.IntN(len(boxes))])
			}
			b.Messages = append(b.Messages, m)
			messages[m.ID] = m
		}
		if err := s.IndexBatch(ctx, b); err != nil {
			t.Fatal(err)
		}
		segments[b.Segment] = b.Messages
	}
	for range 25 {
		now = now.Add(time.Duration(rng.IntN(60)) * time.Hour)
		if now.After(time.Now()) {
			break
		}
		change(t, s, w, rng, boxes)
		checkVisible(t, s, w, messages, boxes, now)
		if rng.IntN(2) == 0 {
			expireAll(t, s, w, messages, segments, now)
		}
	}
}

func setRetention(t *testing.T, s *Store, w *world, domain string, days int) {
	t.Helper()
	_, err := s.Pool.Exec(t.Context(), `INSERT INTO domain (name, primaries, retention_days) VALUES ($1, '{127.0.0.1:25}', $2)
		ON CONFLICT (name) DO UPDATE SET retention_days = $2`, domain, days)
	if err != nil {
		t.Fatal(err)
	}
	if days < w.days[domain] && w.longer != nil {
		w.longer[domain] = max(w.longer[domain], w.days[domain])
	}
	w.days[domain] = days
}

// change changes a retention or a hold, or removes a domain.
func change(t *testing.T, s *Store, w *world, rng *rand.Rand, boxes []string) {
	t.Helper()
	box := boxes[rng.IntN(len(boxes))]
	var err error
	switch target := []string{box, domainOf(box)}[rng.IntN(2)]; rng.IntN(8) {
	case 0:
		setRetention(t, s, w, domainOf(box), 1+rng.IntN(40))
	case 1: // its last word stays
		_, err = s.Pool.Exec(t.Context(), `DELETE FROM domain WHERE name = $1`, domainOf(box))
	case 2, 3: // a week passes, which by the server's clock it does not in this test
		_, err = s.Pool.Exec(t.Context(), `UPDATE retention SET longer_until = '-infinity' WHERE domain = $1`, domainOf(box))
		delete(w.longer, domainOf(box))
	case 4, 5:
		if !w.held[target] {
			err, w.held[target] = s.AddHold(t.Context(), target, "test", "why not"), true
		}
	default:
		if w.held[target] {
			err, w.held[target] = s.EndHold(t.Context(), target, "test"), false
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// checkVisible compares what each may see with the rule.
func checkVisible(t *testing.T, s *Store, w *world, messages map[uuid.UUID]IndexedMessage, boxes []string, now time.Time) {
	t.Helper()
	ask := func(access Access, mine func(mailbox string) bool) {
		want := map[uuid.UUID]bool{}
		for id, m := range messages {
			for _, box := range m.Mailboxes {
				if mine(box) && w.needed(box, m.Received, now) {
					want[id] = true
				}
			}
		}
		for _, q := range []*query.Query{nil, {Root: query.Words{List: []string{"text"}}}} {
			if diff := cmp.Diff(want, pages(t, s, MessageFilter{Access: access, Query: q, Limit: maxPage})); diff != "" {
				t.Errorf("%+v at %v: %s", access, now, diff)
			}
		}
		for id := range messages {
			_, err := s.Message(t.Context(), access, id)
			if ok := err == nil; ok != want[id] || err != nil && !errors.Is(err, ErrNotFound) {
				t.Errorf("%+v: message %v, want visible %v", access, err, want[id])
			}
		}
	}
	for _, box := range boxes[:3] {
		ask(Access{Mailbox: box}, func(x string) bool { return x == box })
	}
	ask(Access{Domains: []string{"d1.test"}}, func(x string) bool { return domainOf(x) == "d1.test" })
	ask(Access{All: true}, func(string) bool { return true })
}

// expireAll removes what may go, and checks that it is that and no more.
func expireAll(t *testing.T, s *Store, w *world, messages map[uuid.UUID]IndexedMessage, segments map[string][]IndexedMessage, now time.Time) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	needed, neededDays := map[string]bool{}, map[string]bool{}
	for name, list := range segments { // a hold set late keeps a segment whose rows are gone already
		needed[name] = slices.ContainsFunc(list, func(m IndexedMessage) bool { return w.anyKeeps(m, now) })
	}
	for _, m := range messages {
		if w.anyKeeps(m, now) {
			neededDays[m.Received.Format(time.DateOnly)] = true
		}
	}
	list, err := s.ExpiredSegments(ctx, now)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		removed := false
		ok, err := s.ExpireSegment(ctx, c.Segment, now, func() error { removed = true; return nil })
		if err != nil || !ok || !removed || needed[c.Segment] || segments[c.Segment] == nil {
			t.Errorf("segment %s: %v %v, %v; needed %v", c.Segment, ok, removed, err, needed[c.Segment])
		}
		delete(segments, c.Segment)
	}
	for name := range segments {
		if !needed[name] {
			t.Errorf("segment %s stays although nothing in it is needed", name)
		}
		if ok, err := s.ExpireSegment(ctx, name, now, func() error { t.Error("removed"); return nil }); ok || err != nil {
			t.Errorf("needed segment %s: %v, %v", name, ok, err)
		}
	}
	days, err := s.OldDays(ctx, now)
	if err != nil {
		t.Fatal(err)
	}
	for _, day := range days {
		dropped, err := s.DropExpiredDay(ctx, day, now)
		if name := day.Format(time.DateOnly); err != nil || dropped == neededDays[name] {
			t.Errorf("day %s: dropped %v, %v; needed %v", name, dropped, err, neededDays[name])
		}
		for id, m := range messages {
			if dropped && m.Received.Format(time.DateOnly) == day.Format(time.DateOnly) {
				delete(messages, id)
			}
		}
	}
}
