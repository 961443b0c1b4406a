package store

import (
	"errors"
	"testing"
	"time"
)

// TestShipping walks a segment through its states, and one that expires in
// the middle.
func TestShipping(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	is := func(what string, ok bool, err error, want bool) {
		t.Helper()
		if ok != want || err != nil {
			t.Errorf("%s: %v, %v; want %v", what, ok, err, want)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	begin := func(name string) (bool, error) { return s.BeginShipping(t.Context(), name, 3, []byte("sum")) }
	finish := func(name string) (bool, error) { return s.FinishShipping(t.Context(), name) }
	known := func() map[string]Shipment {
		t.Helper()
		k, err := s.Shipments(t.Context())
		must(err)
		return k
	}
	ok, err := finish("a")
	is("finish what was not begun", ok, err, false)
	for range 2 {
		ok, err = begin("a")
		is("begin", ok, err, true)
	}
	if k := known()["a"]; k.Size != 3 || string(k.SHA256) != "sum" || k.Verified != nil || k.Removed != nil || k.Begun.IsZero() {
		t.Errorf("begun: %+v", k)
	}
	ok, err = finish("a")
	is("finish", ok, err, true)
	if k := known()["a"]; k.Verified == nil {
		t.Errorf("finished: %+v", k)
	}
	ok, err = begin("a")
	is("begin anew", ok, err, true)
	if k := known()["a"]; k.Verified != nil {
		t.Errorf("begun anew: %+v", k)
	}
	expire := func(name string) {
		t.Helper()
		m := sample(1)
		m[0].Received, m[0].Mailboxes = time.Now().AddDate(0, 0, -100), []string{"ana@example.test"}
		must(s.IndexBatch(t.Context(), IndexBatch{Segment: name, To: 3, Sealed: true, Messages: m}))
		ok, err := s.ExpireSegment(t.Context(), name, time.Now(), func() error { return nil })
		is("expire", ok, err, true)
	}
	setRetention(t, s, &world{days: map[string]int{}}, "example.test", 90)
	expire("a")
	ok, err = finish("a")
	is("finish what expired", ok, err, false)
	expire("b")
	first := known()["b"].Removed
	if at, err := s.SegmentOffsets(t.Context()); err != nil || !at["b"].Sealed {
		t.Errorf("what expired is to be indexed: %+v, %v", at, err)
	}
	must(s.ForgetShipping(t.Context(), "a"))
	ok, err = begin("a")
	is("begin what was forgotten", ok, err, true)
	if err := s.IndexBatch(t.Context(), IndexBatch{Segment: "a", To: 3, Sealed: true, Messages: sample(1)}); err != nil {
		t.Fatal(err)
	}
	_, err = s.ExpireSegment(t.Context(), "a", time.Now(), func() error { return nil })
	must(err)
	if k := known(); k["a"].Removed != nil || first == nil {
		t.Errorf("what is needed was expired: %+v, %v", k, first)
	}
	expire("c")
	for _, name := range []string{"a", "b", "c"} {
		if name != "a" {
			ok, err = begin(name)
			is("begin what expired", ok, err, false)
		}
		must(s.ForgetShipping(t.Context(), name))
	}
	if k := known(); len(k) != 0 {
		t.Errorf("forgotten: %v", k)
	}
	ok, err = begin("a")
	is("begin what was forgotten", ok, err, true)
}

// TestHoldSavesTheCopy: what a removal says to the bucket is part of the
// transaction that forgets the segment.
func TestHoldSavesTheCopy(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), t.Context()
	setRetention(t, s, &world{days: map[string]int{}}, "example.test", 10)
	m := sample(1)
	m[0].Received, m[0].Mailboxes = time.Now().AddDate(0, 0, -15), []string{"ana@example.test"}
	if err := s.IndexBatch(ctx, IndexBatch{Segment: "s", To: 10, Sealed: true, Messages: m}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.BeginShipping(ctx, "s", 10, []byte("sum")); err != nil {
		t.Fatal(err)
	}
	if ok, err := s.FinishShipping(ctx, "s"); !ok || err != nil {
		t.Fatal(ok, err)
	}
	broken := errors.New("read-only disk")
	if ok, err := s.ExpireSegment(ctx, "s", time.Now(), func() error { return broken }); ok || !errors.Is(err, broken) {
		t.Errorf("got %v, %v", ok, err)
	}
	if err := s.AddHold(ctx, "ana@example.test", "x", "just in time"); err != nil {
		t.Fatal(err)
	}
	if ok, err := s.ExpireSegment(ctx, "s", time.Now(), func() error { t.Error("removed"); return nil }); ok || err != nil {
		t.Errorf("held: %v, %v", ok, err)
	}
	if k, err := s.Shipments(ctx); err != nil || k["s"].Removed != nil {
		t.Errorf("the copy is to be deleted: %+v, %v", k, err)
	}
}
