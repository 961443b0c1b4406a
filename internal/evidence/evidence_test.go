package evidence

import (
	"net/http"
	"sync/atomic"
	"testing"

	"understudy/internal/listen/listentest"
)

// TestGap: a client knows when it was not told of everything.
func TestGap(t *testing.T) {
	t.Parallel()
	var ring atomic.Pointer[Ring]
	ring.Store(NewRing())
	c := NewClient(listentest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { ring.Load().ServeHTTP(w, r) })))
	add := func(n int) {
		for range n {
			ring.Load().Add(Event{Domain: "example.test", Class: Fallback})
		}
	}
	for _, step := range []struct {
		name string
		do   func()
		want int
		gap  bool
	}{
		{"what came before the client", func() { add(3) }, 3, false},
		{"the next", func() { add(1) }, 1, false},
		{"all that the ring holds", func() { add(ringSize) }, ringSize, false},
		{"more than the ring holds", func() { add(ringSize + 1) }, ringSize, true},
		{"the next after that", func() { add(2) }, 2, false},
		{"policyd starts anew", func() { ring.Store(NewRing()); add(2) }, 2, true},
		{"and goes on", func() { add(1) }, 1, false},
		{"policyd starts anew with nothing to tell", func() { ring.Store(NewRing()) }, 0, true},
	} {
		step.do()
		events, err := c.Poll(t.Context())
		if err != nil || len(events) != step.want || c.Gap() != step.gap {
			t.Errorf("%s: %d events, gap %v, %v; want %d, %v", step.name, len(events), c.Gap(), err, step.want, step.gap)
		}
	}
}
