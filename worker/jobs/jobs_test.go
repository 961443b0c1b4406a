package jobs

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/riverqueue/river"

	"understudy/internal/pgtest"
	"understudy/internal/store"
	"understudy/internal/store/storetest"
	"understudy/internal/wait"
)

// work is a job of this test alone.
type work struct {
	Domain string `json:"domain"`
}

// Kind names the job.
func (work) Kind() string { return "work" }

// counter works jobs by counting them, and blocks those of domain "block".
type counter struct {
	river.WorkerDefaults[work]
	done    atomic.Int32
	blocked atomic.Int32
	release chan struct{}
}

func (c *counter) Work(ctx context.Context, j *river.Job[work]) error {
	if j.Args.Domain == "block" {
		c.blocked.Add(1)
		select {
		case <-c.release:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	c.done.Add(1)
	return nil
}

// beat is a periodic job of this test alone.
type beat struct{}

// Kind names the job.
func (beat) Kind() string { return "beat" }

// heart counts beats.
type heart struct {
	river.WorkerDefaults[beat]
	runs atomic.Int32
}

func (h *heart) Work(context.Context, *river.Job[beat]) error { h.runs.Add(1); return nil }

func newStore(t *testing.T, c *pgtest.Cluster) *store.Store {
	t.Helper()
	return storetest.Open(t, c)
}

func start(t *testing.T, s *store.Store, c *counter, h *heart) (r *Runner, stop func()) {
	t.Helper()
	workers := river.NewWorkers()
	river.AddWorker(workers, c)
	river.AddWorker(workers, h)
	river.AddWorker(workers, &Partitions{Store: s})
	periodic := river.NewPeriodicJob(river.PeriodicInterval(time.Second), func() (river.JobArgs, *river.InsertOpts) { return beat{}, nil },
		&river.PeriodicJobOpts{RunOnStart: true})
	r = &Runner{Pool: s.Pool, Store: s, ID: "test-worker", Workers: workers, Periodic: []*river.PeriodicJob{periodic}, Longest: time.Hour,
		Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	wg.Go(func() { r.Run(ctx) })
	return r, func() { cancel(); wg.Wait() }
}

// TestJobsAcrossAnOutage: the server goes away and comes back; jobs of before
// and after are worked, periodic ones go on.
func TestJobsAcrossAnOutage(t *testing.T) {
	t.Parallel()
	own, err := pgtest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { own.Remove() })
	s := newStore(t, own)
	c, h := &counter{}, &heart{}
	r, stop := start(t, s, c, h)
	defer stop()
	insert := func(domain string) { // not before the server is back
		wait.True(t, "insert", func() bool { return s.Enqueue(t.Context(), work{Domain: domain}, nil) == nil })
	}
	insert("a.test")
	wait.True(t, "the first job", func() bool { return c.done.Load() == 1 })
	wait.True(t, "beats", func() bool { return h.runs.Load() > 1 })
	wait.True(t, "partitions", func() bool {
		var n int
		err := s.Pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_inherits WHERE inhparent = 'message'::regclass`).Scan(&n)
		return err == nil && n >= daysAhead+1 // one more at midnight
	})
	insert("late.test")
	if err := own.StopServer(); err != nil {
		t.Fatal(err)
	}
	down := time.Now()
	wait.True(t, "some seconds without PostgreSQL", func() bool { return time.Since(down) > 5*time.Second })
	if err := own.StartServer(); err != nil {
		t.Fatal(err)
	}
	before := h.runs.Load()
	insert("b.test")
	wait.True(t, "jobs of before and after", func() bool { return c.done.Load() >= 3 })
	wait.True(t, "beats again", func() bool { return h.runs.Load() > before+1 })
	if !r.Running() || testutil.ToFloat64(r.results.WithLabelValues("work", "done")) == 0 {
		t.Error("not running, or nothing counted")
	}
}

// TestKilledWorkersJobsRunAgain: a job that was running when its worker was
// killed is not left until it counts as stuck.
func TestKilledWorkersJobsRunAgain(t *testing.T) {
	t.Parallel()
	s := newStore(t, cluster)
	c := &counter{release: make(chan struct{})}
	if err := s.Enqueue(t.Context(), work{Domain: "a.test"}, nil); err != nil {
		t.Fatal(err)
	}
	// What a killed worker leaves behind.
	_, err := s.Pool.Exec(t.Context(), `UPDATE river_job SET state = 'running', attempt = max_attempts, attempted_at = now(), attempted_by = '{other,test-worker}'`)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Enqueue(t.Context(), work{Domain: "another worker's"}, nil); err != nil {
		t.Fatal(err)
	}
	_, err = s.Pool.Exec(t.Context(), `UPDATE river_job SET state = 'running', attempt = 1, attempted_at = now(), attempted_by = '{test-worker,other}' WHERE state = 'available'`)
	if err != nil {
		t.Fatal(err)
	}
	_, stop := start(t, s, c, &heart{})
	defer stop()
	wait.True(t, "the job", func() bool { return c.done.Load() == 1 })
	var state string
	if err := s.Pool.QueryRow(t.Context(), `SELECT state FROM river_job WHERE args ->> 'domain' = 'another worker''s'`).Scan(&state); err != nil || state != "running" {
		t.Errorf("another worker's job: %s, %v", state, err)
	}
}

// TestShutdownLetsJobsEnd: a running job is finished.
func TestShutdownLetsJobsEnd(t *testing.T) {
	t.Parallel()
	s := newStore(t, cluster)
	c := &counter{release: make(chan struct{})}
	_, stop := start(t, s, c, &heart{})
	if err := s.Enqueue(t.Context(), work{Domain: "block"}, nil); err != nil {
		t.Fatal(err)
	}
	wait.True(t, "the job to run", func() bool { return c.blocked.Load() == 1 })
	ended := make(chan struct{})
	go func() { defer close(ended); stop() }()
	close(c.release)
	select {
	case <-ended:
	case <-time.After(3 * time.Minute):
		t.Fatal("does not end")
	}
	if c.done.Load() != 1 {
		t.Error("the job was not finished")
	}
}

var cluster *pgtest.Cluster

func TestMain(m *testing.M) { pgtest.Main(m, &cluster) }
