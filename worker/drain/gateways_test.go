package drain

import (
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"understudy/internal/store"
)

// TestTwoGateways: one domain and database, two portals. Whoever drains first
// and however often, each gateway returns what is in its own portal, once, and
// what the primary refused stays held in both.
func TestTwoGateways(t *testing.T) {
	t.Parallel()
	one := newWorld(t)
	two := one.second()
	for n := range 6 {
		[]*world{one, two}[n%2].portal.Deliver("s@x.test", ana, message(n))
	}
	one.primary.Refuse(bruno, "550 5.7.1 not this one")
	for _, w := range []*world{one, two} {
		w.portal.Deliver("s@x.test", bruno, message(100))
	}
	for range 2 {
		for _, w := range []*world{one, two} {
			if s := w.run(Complete); s.Held != 1 {
				t.Errorf("at %s: %+v", w.worker.Gateway, s)
			}
		}
	}
	one.exactlyOnce(6, map[string]int{ana: 6})
	one.counts(store.LedgerCounts{Done: 6, Held: 2})
	held, err := one.store.HeldMessages(t.Context(), domain, 10)
	if err != nil || len(held) != 2 || held[0].Attempts != 1 || held[1].Attempts != 1 || held[0].Gateway == held[1].Gateway {
		t.Errorf("held %+v, %v", held, err)
	}
	one.primary.Refuse(bruno, "")
	if n, err := one.store.Retry(t.Context(), domain); err != nil || n != 2 {
		t.Errorf("retry: %d, %v", n, err)
	}
	// In each other's way are they not: one waits for no lock of the other.
	release, ok, err := one.store.LockDrain(t.Context(), "mx1", domain)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	one.run(Locked)
	if s := two.run(Complete); s.Returned != 1 {
		t.Errorf("retry at mx2: %+v", s)
	}
	release()
	if s := one.run(Complete); s.Returned != 1 {
		t.Errorf("retry at mx1: %+v", s)
	}
	one.primary.Await(bruno, 2)
	one.counts(store.LedgerCounts{Done: 8})
}

// TestTwoGatewaysKilled: both drain at once, each in processes that are killed
// (kill -9) in the middle, after a message was recorded as sent and before it
// is removed. Each message is at the primary exactly once.
func TestTwoGatewaysKilled(t *testing.T) {
	t.Parallel()
	const total = 40
	one := newWorld(t)
	two := one.second()
	for n := range total {
		[]*world{one, two}[n%2].portal.Deliver("s@x.test", []string{ana, bruno}[n/2%2], message(n))
	}
	var wg sync.WaitGroup
	for _, w := range []*world{one, two} {
		wg.Go(func() {
			c := childConfig{Gateway: w.worker.Gateway, Database: w.url, Portal: w.portal.Config, Concurrency: 1, Sent: 4}
			kills := 0
			for {
				cmd := c.command(t)
				out := &strings.Builder{}
				cmd.Stderr = out
				if !killed(cmd.Run()) {
					if code := cmd.ProcessState.ExitCode(); code != 0 {
						t.Errorf("%s: exit code %d: %s", c.Gateway, code, out)
					}
					break
				}
				kills++
			}
			if kills != total/2/c.Sent {
				t.Errorf("%s was killed %d times", c.Gateway, kills)
			}
		})
	}
	wg.Wait()
	one.exactlyOnce(total, map[string]int{ana: total / 2, bruno: total / 2})
	one.counts(store.LedgerCounts{Done: total})
	for _, m := range []string{ana, bruno} {
		if left := two.left(m); left != 0 {
			t.Errorf("%d left in %s at mx2", left, m)
		}
	}
}

func killed(err error) bool {
	e, ok := err.(*exec.ExitError)
	if !ok {
		return false
	}
	status, ok := e.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}
