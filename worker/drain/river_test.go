package drain

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"understudy/internal/directory"
	"understudy/internal/evidence"
	"understudy/internal/job"
	"understudy/internal/listen/listentest"
)

// TestRiver runs the jobs as the worker process does: a switch back to normal
// inserts a drain, which sleeps while the primary is down and is done when it
// is up; what policyd tells to have come to the portal in normal mode follows.
func TestRiver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	workers := river.NewWorkers()
	river.AddWorker(workers, w.worker)
	client, err := river.NewClient(riverpgxv5.New(w.store.Pool), &river.Config{Workers: workers, Logger: slog.New(slog.DiscardHandler),
		Queues: map[string]river.QueueConfig{job.GatewayQueue("mx1"): {MaxWorkers: 4}}, FetchPollInterval: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, client) })
	ring := evidence.NewRing()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		NewSweep(w.worker, w.store, evidence.NewClient(listentest.Serve(t, ring)), 200*time.Millisecond).Run(ctx)
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	w.setMode(directory.Emergency)
	w.portal.Deliver("s@x.test", ana, message(1))
	w.primary.Stop()
	w.setMode(directory.Normal)
	w.await(func() bool {
		return w.count(`SELECT count(*) FROM river_job WHERE kind = 'drain' AND state = 'scheduled'`) == 1
	})
	w.primary.Run()
	w.await(func() bool {
		return w.count(`SELECT count(*) FROM river_job WHERE kind = 'drain' AND state = 'scheduled'`) == 0 && w.left(ana) == 0
	})
	w.exactlyOnce(1, map[string]int{ana: 1})
	w.portal.Deliver("s@x.test", bruno, message(2))
	ring.Add(evidence.Event{Domain: domain, Class: evidence.Fallback, Recipient: "Bruno@Example.test"})
	w.await(func() bool { return w.count(`SELECT count(*) FROM drain_ledger WHERE state = 'done'`) == 2 })
	w.numbers(bruno, 1)
	if n := w.count(`SELECT count(*) FROM river_job WHERE kind = 'drain' AND errors IS NOT NULL`); n != 0 {
		t.Errorf("%d jobs had errors", n)
	}
}

func stop(t *testing.T, client *river.Client[pgx.Tx]) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	if err := client.StopAndCancel(ctx); err != nil {
		t.Error(err)
	}
}

func TestPause(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]time.Duration{0: 2 * time.Second, 1: 2 * time.Second, 2: 4 * time.Second, 5: 32 * time.Second, 6: time.Minute, 1000: time.Minute} {
		if got := pause(n); got != want {
			t.Errorf("pause %d is %s, want %s", n, got, want)
		}
	}
}
