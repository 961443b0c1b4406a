package reroute

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"understudy/internal/delivery"
)

// TestManyDomainsShareListings: a hundred domains whose mode changes at once
// cost a few listings of the queue, each after the flushes that it is for.
func TestManyDomainsShareListings(t *testing.T) {
	t.Parallel()
	const many = 100
	// A listing takes as long as the flushes, however slow the machine is.
	command, calls := script(t, fmt.Sprintf(`[ "$1" = -j ] || exit 0
for i in $(seq 1000); do
	[ $(grep -c -- ^-s "${0%%/*}/calls") -lt %d ] || exit 0
	sleep 0.1
done`, many))
	w := New(Config{Postqueue: command, Reentry: nowhere, Delivery: &delivery.Client{}, Log: slog.New(slog.DiscardHandler)})
	var all sync.WaitGroup
	for n := range many {
		all.Go(func() {
			if _, done := w.step(t.Context(), change{domain: fmt.Sprintf("d%d.test", n)}, 0); !done {
				t.Errorf("d%d.test is not done", n)
			}
		})
	}
	all.Wait()
	text := calls()
	if n := strings.Count(text, "-j\n"); n == 0 || n > many/4 {
		t.Errorf("%d listings for %d domains", n, many)
	}
	for n := range many {
		if _, after, ok := strings.Cut(text, fmt.Sprintf("-s d%d.test\n", n)); !ok || !strings.Contains(after, "-j\n") {
			t.Errorf("d%d.test: flushed %v, and listed afterwards %v", n, ok, strings.Contains(after, "-j\n"))
		}
	}
}

// TestShared: who comes during a run is served by the next; a run whose leader
// is gone is made again for the others; an error is of all.
func TestShared(t *testing.T) {
	t.Parallel()
	type call struct {
		domains []string
		end     chan error
	}
	calls := make(chan call)
	s := newShared(func(ctx context.Context, domains []string) (map[string]int, error) {
		c := call{domains, make(chan error, 1)}
		calls <- c
		select {
		case err := <-c.end:
			return map[string]int{"a.test": 1, "b.test": 2, "c.test": 3}, err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	type answer struct {
		n   int
		err error
	}
	ask := func(ctx context.Context, domain string) chan answer {
		out := make(chan answer, 1)
		go func() {
			n, err := s.do(ctx, domain)
			out <- answer{n, err}
		}()
		return out
	}
	joined := func(n int) func() bool {
		return func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.next != nil && len(s.next.domains) == n
		}
	}
	a := ask(t.Context(), "a.test")
	first := <-calls
	ctx, cancel := context.WithCancel(t.Context())
	b := ask(ctx, "b.test")
	await(t, joined(1))
	c := ask(t.Context(), "c.test")
	await(t, joined(2))
	first.end <- nil
	if got := <-a; got.n != 1 || got.err != nil || len(first.domains) != 1 {
		t.Errorf("the first: %+v of %q", got, first.domains)
	}
	second := <-calls
	if len(second.domains) != 2 {
		t.Errorf("the second is for %q", second.domains)
	}
	cancel() // of b, which may lead it or not
	if got := <-b; !errors.Is(got.err, context.Canceled) {
		t.Errorf("b: %+v", got)
	}
	broken := errors.New("broken")
	second.end <- broken // nobody reads it if b led
	select {
	case got := <-c:
		if !errors.Is(got.err, broken) {
			t.Errorf("c: %+v", got)
		}
	case third := <-calls:
		third.end <- nil
		if got := <-c; got.n != 3 || got.err != nil {
			t.Errorf("c, again: %+v", got)
		}
	}
}
