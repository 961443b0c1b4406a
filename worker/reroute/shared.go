package reroute

import (
	"context"
	"errors"
	"sync"
)

// shared does one piece of work for all domains that want it at a time: those
// that come while it runs are served together by the next run, which begins
// after they came. So a change of five hundred domains costs as many listings
// of the queue as one of them.
//
// One of those who wait runs it for the others. When its own domain changes
// again, and its context ends, the others begin anew.
type shared[T any] struct {
	run func(ctx context.Context, domains []string) (map[string]T, error)

	mu   sync.Mutex
	next *gathering[T]
	busy chan struct{} // takes one: somebody runs
}

// gathering is those who wait for one run.
type gathering[T any] struct {
	domains map[string]bool
	done    chan struct{} // closed after the run
	out     map[string]T
	err     error
}

func newShared[T any](run func(ctx context.Context, domains []string) (map[string]T, error)) *shared[T] {
	return &shared[T]{run: run, busy: make(chan struct{}, 1)}
}

// do returns what a run that begins from now on comes to for a domain.
func (s *shared[T]) do(ctx context.Context, domain string) (none T, _ error) {
	for ctx.Err() == nil {
		g := s.join(domain)
		select {
		case <-ctx.Done():
			return none, ctx.Err()
		case <-g.done:
		case s.busy <- struct{}{}:
			s.lead(ctx, g)
			<-s.busy
		}
		if !errors.Is(g.err, context.Canceled) {
			return g.out[domain], g.err
		}
	}
	return none, ctx.Err()
}

func (s *shared[T]) join(domain string) *gathering[T] {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next == nil {
		s.next = &gathering[T]{domains: map[string]bool{}, done: make(chan struct{})}
	}
	s.next.domains[domain] = true
	return s.next
}

// lead runs for a gathering, unless another has just done so.
func (s *shared[T]) lead(ctx context.Context, g *gathering[T]) {
	s.mu.Lock()
	if s.next != g {
		s.mu.Unlock()
		return
	}
	s.next = nil
	s.mu.Unlock()
	domains := make([]string, 0, len(g.domains))
	for d := range g.domains {
		domains = append(domains, d)
	}
	g.out, g.err = s.run(ctx, domains)
	if g.err != nil && ctx.Err() != nil {
		g.err = context.Canceled
	}
	close(g.done)
}
