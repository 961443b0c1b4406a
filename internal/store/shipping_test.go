package store

import (
	"testing"
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
	must(s.ExpireShipping(t.Context(), "a"))
	ok, err = finish("a")
	is("finish what expired", ok, err, false)
	must(s.ExpireShipping(t.Context(), "b"))
	first := known()["b"].Removed
	must(s.ExpireShipping(t.Context(), "b"))
	if again := known()["b"].Removed; first == nil || again == nil || !again.Equal(*first) {
		t.Errorf("expired %v, again %v", first, again)
	}
	for _, name := range []string{"a", "b"} {
		ok, err = begin(name)
		is("begin what expired", ok, err, false)
		must(s.ForgetShipping(t.Context(), name))
	}
	if k := known(); len(k) != 0 {
		t.Errorf("forgotten: %v", k)
	}
	ok, err = begin("a")
	is("begin what was forgotten", ok, err, true)
}
