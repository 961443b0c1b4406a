package drain

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"understudy/internal/directory"
	"understudy/internal/job"
)

// TestRiver runs the jobs as the worker process does: a switch back to normal
// inserts a drain, which sleeps while the primary is down and is done when it
// is up; a sweep finds what came to the portal in normal mode.
func TestRiver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	workers := river.NewWorkers()
	river.AddWorker(workers, w.worker)
	river.AddWorker(workers, NewSweep(w.dir, w.store, slog.New(slog.DiscardHandler)))
	client, err := river.NewClient(riverpgxv5.New(w.store.Pool), &river.Config{Workers: workers, Logger: slog.New(slog.DiscardHandler),
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 4}}, FetchPollInterval: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, client) })
	w.setMode(directory.Emergency)
	w.portal.Deliver("s@x.test", ana, message(1))
	w.primary.Stop()
	w.setMode(directory.Normal)
	w.await(func() bool {
		return w.count(`SELECT count(*) FROM river_job WHERE kind = 'drain' AND state = 'scheduled'`) == 1
	})
	w.primary.Run()
	w.await(func() bool {
		return w.count(`SELECT count(*) FROM river_job WHERE kind = 'drain' AND state = 'completed'`) == 1
	})
	w.exactlyOnce(1, map[string]int{ana: 1})
	w.portal.Deliver("s@x.test", bruno, message(2))
	if err := w.store.Enqueue(t.Context(), job.Sweep{}, nil); err != nil {
		t.Fatal(err)
	}
	w.await(func() bool { return w.count(`SELECT count(*) FROM drain_ledger WHERE state = 'done'`) == 2 })
	w.numbers(bruno, 1)
	if n := w.count(`SELECT count(*) FROM river_job WHERE kind IN ('drain', 'sweep') AND errors IS NOT NULL`); n != 0 {
		t.Errorf("%d jobs had errors", n)
	}
}

func stop(t *testing.T, client *river.Client[pgx.Tx]) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := client.StopAndCancel(ctx); err != nil {
		t.Error(err)
	}
}

// queue records what a sweep inserts.
type queue struct {
	domains []string
	pruned  int
}

func (q *queue) Enqueue(_ context.Context, args river.JobArgs, _ *river.InsertOpts) error {
	q.domains = append(q.domains, args.(job.Drain).Domain)
	return nil
}

func (q *queue) PruneLedger(context.Context, time.Time) (int64, error) {
	q.pruned++
	return 0, nil
}

func TestSweep(t *testing.T) {
	t.Parallel()
	dir := directory.New()
	dir.Apply(&directory.Change{Full: true, Version: 1,
		Domains: []*directory.Domain{{ID: 1, Name: "a.test", Mode: directory.Normal}, {ID: 2, Name: "b.test", Mode: directory.Emergency},
			{ID: 3, Name: "c.test", Mode: directory.Normal}, {ID: 4, Name: "d.test", Mode: directory.Normal}},
		Mailboxes: []*directory.Mailbox{{ID: 1, DomainID: 1, Address: "x@a.test"}, {ID: 2, DomainID: 2, Address: "x@b.test"}, {ID: 3, DomainID: 4, Address: "x@d.test"}}})
	q := &queue{}
	s := NewSweep(dir, q, slog.New(slog.DiscardHandler))
	for range 2 {
		if err := s.Work(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"a.test", "d.test", "a.test", "d.test"}; !slices.Equal(q.domains, want) || q.pruned != 1 {
		t.Errorf("drains for %q, pruned %d times", q.domains, q.pruned)
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
