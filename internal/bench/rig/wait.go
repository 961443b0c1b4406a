package rig

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Poll is how often a condition is looked at: small beside what is measured.
const Poll = 5 * time.Millisecond

type never struct{ error }

func (n never) Unwrap() error { return n.error }

// Never marks an error after which waiting is of no use.
func Never(err error) error { return never{err} }

// Wait looks at a condition until it holds.
func Wait(ctx context.Context, timeout time.Duration, holds func() error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tick := time.NewTicker(Poll)
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
