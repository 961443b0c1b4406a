// Package wait looks at a condition until it holds: for tests and benchmarks
// of real servers, which tell nobody when they are ready.
package wait

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// limit is how long a test waits: a loaded machine is no failure.
const limit = 3 * time.Minute

// often is how often a test looks.
const often = 20 * time.Millisecond

type never struct{ error }

func (n never) Unwrap() error { return n.error }

// Never marks an error after which waiting is of no use.
func Never(err error) error { return never{err} }

// For looks at a condition every so often until it gives no error. It returns
// the condition's last error when the time is up or ctx ends.
func For(ctx context.Context, limit, often time.Duration, holds func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(often)
	defer tick.Stop()
	for {
		err := holds()
		if err == nil {
			return nil
		}
		if n := (never{}); errors.As(err, &n) {
			return n.error
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited in vain: %w", err)
		case <-tick.C:
		}
	}
}

// TB is what of testing.TB is needed.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
}

// Until waits in a test, which it ends when three minutes were in vain.
func Until(tb TB, what string, holds func() error) {
	tb.Helper()
	Within(tb, limit, what, holds)
}

// Within is Until with another limit.
func Within(tb TB, limit time.Duration, what string, holds func() error) {
	tb.Helper()
	// Not the test's own context: cleanups wait as well.
	if err := For(context.Background(), limit, often, holds); err != nil {
		tb.Fatalf("%s: %v", what, err)
	}
}

// True is Until for a condition that has no more to say.
func True(tb TB, what string, ok func() bool) {
	tb.Helper()
	Until(tb, what, func() error {
		if !ok() {
			return errors.New("not so")
		}
		return nil
	})
}

// Listen is nil when somebody listens at each of the TCP addresses.
func Listen(addresses ...string) error {
	for _, a := range addresses {
		c, err := net.DialTimeout("tcp", a, 5*time.Second)
		if err != nil {
			return err
		}
		if err := c.Close(); err != nil {
			return err
		}
	}
	return nil
}
