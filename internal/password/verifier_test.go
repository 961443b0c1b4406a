package password

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestVerifierBounds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const concurrency, queue = 2, 3
		v := NewVerifier(concurrency, queue)
		release := make(chan struct{})
		var wg sync.WaitGroup
		most := 0
		for range concurrency + queue {
			wg.Go(func() {
				err := v.Do(t.Context(), func(context.Context) error {
					most = max(most, v.Running())
					<-release
					return nil
				})
				if err != nil {
					t.Errorf("Do = %v", err)
				}
			})
			synctest.Wait() // one after the other
		}
		if v.Running() != concurrency || v.Waiting() != queue {
			t.Errorf("running %d, waiting %d; want %d and %d", v.Running(), v.Waiting(), concurrency, queue)
		}
		if _, err := v.Verify(t.Context(), unknownHash, "x"); !errors.Is(err, ErrBusy) {
			t.Errorf("beyond the queue: %v, want ErrBusy", err)
		}
		close(release)
		wg.Wait()
		if most != concurrency || v.Running() != 0 || v.Waiting() != 0 {
			t.Errorf("most %d; left running %d, waiting %d", most, v.Running(), v.Waiting())
		}
	})
}

func TestVerifierWaitEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := NewVerifier(1, 1)
		release, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			v.Do(t.Context(), func(context.Context) error { <-release; return nil })
		}()
		synctest.Wait()
		start := time.Now()
		if err := v.Do(t.Context(), func(context.Context) error { return nil }); !errors.Is(err, ErrBusy) {
			t.Errorf("Do = %v, want ErrBusy", err)
		}
		if waited := time.Since(start); waited != MaxWait {
			t.Errorf("waited %v, want %v", waited, MaxWait)
		}
		close(release)
		<-done
		if ok, err := v.Verify(t.Context(), unknownHash, "x"); ok || err != nil {
			t.Errorf("Verify afterwards = %v, %v", ok, err)
		}
	})
}

func TestVerifierReleasesAfterPanic(t *testing.T) {
	t.Parallel()
	v := NewVerifier(1, 1)
	func() {
		defer func() { recover() }()
		v.Do(t.Context(), func(context.Context) error { panic("in a verification") })
	}()
	if err := v.Do(t.Context(), func(context.Context) error { return nil }); err != nil {
		t.Errorf("Do after a panic = %v", err)
	}
}
