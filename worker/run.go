package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"understudy/internal/archive/ship"
	"understudy/internal/directory"
	"understudy/internal/evidence"
	"understudy/internal/observe"
	"understudy/internal/store"
	"understudy/worker/detect"
	"understudy/worker/drain"
	"understudy/worker/expire"
	"understudy/worker/index"
	"understudy/worker/jobs"
	"understudy/worker/leader"
	"understudy/worker/monitor"
	"understudy/worker/probe"
	"understudy/worker/recipients"
	"understudy/worker/reroute"
	wship "understudy/worker/ship"
)

const (
	readyRetry   = time.Second     // between looks at a database that is not ready
	readyCheck   = 5 * time.Second // and at one that is
	readyTimeout = 5 * time.Second
)

// service holds what the parts of the worker share.
type service struct {
	cfg       *settings
	log       *slog.Logger
	registry  *prometheus.Registry
	database  *pgxpool.Config
	store     *store.Store
	directory *directory.Directory
	jobs      *jobs.Runner
	archive   ship.Reader
	expiry    *expire.Expiry
	shipper   *wship.Shipper
	rerouter  *reroute.Rerouter
	sweep     *drain.Sweep
	health    health
}

// health is what /healthz says.
type health struct {
	mu  sync.Mutex
	err error // nil: all is well
}

func (h *health) set(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = err
}

func (h *health) get() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

// run is the whole life of the worker. It returns an error only for what
// waiting cannot mend.
func run(ctx context.Context, cfg *settings, log *slog.Logger) error {
	s := &service{cfg: cfg, log: log, registry: observe.Registry(), directory: directory.New()}
	s.health.set(errors.New("starting"))
	var err error
	if s.database, err = cfg.Database.PoolConfig(); err != nil {
		return err
	}
	if s.store, err = store.New(ctx, s.database); err != nil {
		return err
	}
	defer s.store.Close()
	if err := s.prepareJobs(); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return observe.Serve(ctx, cfg.MetricsListen, s.registry, s.healthy) })
	g.Go(func() error { return s.work(ctx) })
	return g.Wait()
}

// work waits for what it needs and then runs all parts until ctx ends.
func (s *service) work(ctx context.Context) error {
	unlock, err := s.lock(ctx)
	if err != nil || ctx.Err() != nil {
		return err
	}
	defer unlock()
	if !s.await(ctx) {
		return nil
	}
	s.log.Info("worker starts")
	follower := &directory.Follower{Directory: s.directory, Config: s.database.ConnConfig.Copy(), Log: s.log, Metrics: s.registry}
	elector := &leader.Elector{Config: s.database.ConnConfig.Copy(), Log: s.log, Gauge: prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "understudy_worker_leader", Help: "1 while this worker leads."})}
	s.registry.MustRegister(elector.Gauge)
	lead := s.leadership()
	x := &index.Indexer{Source: ship.Local(s.archive), Host: s.cfg.GatewayName(), Store: s.store, Interval: s.cfg.IndexInterval, Log: s.log, Metrics: index.NewMetrics(s.registry)}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return follower.Run(ctx) })
	g.Go(func() error { elector.Run(ctx, lead); return nil })
	g.Go(func() error { s.jobs.Run(ctx); return nil })
	g.Go(func() error { x.Run(ctx); return nil })
	g.Go(func() error { s.expiry.Run(ctx); return nil })
	g.Go(func() error { s.shipper.Run(ctx); return nil })
	g.Go(func() error { s.rerouter.Run(ctx); return nil })
	g.Go(func() error { s.sweep.Run(ctx); return nil })
	g.Go(func() error { s.watch(ctx); return nil })
	return g.Wait()
}

// leadership returns what the leading worker does: it monitors, asks primaries
// who exists, and indexes what is in the bucket alone.
func (s *service) leadership() func(ctx context.Context) {
	cfg := s.cfg
	m := &monitor.Monitor{
		Directory: s.directory, Store: s.store,
		Prober:   &probe.Prober{Helo: cfg.HeloName, Timeout: cfg.Probe.Timeout},
		Interval: cfg.Probe.Interval, FastInterval: cfg.Probe.FastInterval,
		Detector: detect.Settings{Failures: cfg.Detector.Failures, Storm: cfg.Detector.Storm, RecoverAfter: cfg.Detector.RecoverAfter,
			RecoverMax: cfg.Detector.RecoverMax, FlapWindow: cfg.Detector.FlapWindow},
		Vantage: detect.VantageSettings{Share: cfg.Vantage.Share, MinDomains: cfg.Vantage.MinDomains, SecondLook: cfg.Vantage.SecondLook},
		Queue:   &monitor.Queue{Command: cfg.Postqueue, Directory: s.directory},
		Witness: monitor.Dial(cfg.Vantage.Witnesses),
		Log:     s.log, Metrics: monitor.NewMetrics(s.registry),
	}
	x := &index.Indexer{Source: ship.NewShipped(s.archive), Store: s.store, Interval: 4 * cfg.IndexInterval, Log: s.log, Metrics: index.NewShippedMetrics(s.registry)}
	who := &recipients.Recipients{Directory: s.directory, Store: s.store, Asker: &probe.Prober{Helo: cfg.HeloName, Timeout: cfg.Probe.Timeout},
		Interval: cfg.Recipients.Interval, CheckEvery: cfg.Recipients.CheckEvery, MarkAfter: cfg.Recipients.MarkAfter,
		PerMinute: cfg.Recipients.PerMinute, Log: s.log, Metrics: recipients.NewMetrics(s.registry)}
	return func(ctx context.Context) {
		m.Evidence = evidence.NewClient(cfg.PolicydControl)
		var wg sync.WaitGroup
		wg.Go(func() { m.Run(ctx) })
		wg.Go(func() { who.Run(ctx) })
		if s.archive.Bucket != nil {
			wg.Go(func() { x.Run(ctx) })
		}
		wg.Wait()
	}
}

// lock makes sure that no other process works with this state directory, and
// so under this worker's name. It waits for one that is ending.
func (s *service) lock(ctx context.Context) (unlock func(), err error) {
	path := filepath.Join(s.cfg.StateDirectory, "worker.lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		return nil, fmt.Errorf("lock state directory: %w", err)
	}
	for said := false; ; {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if !said {
			s.health.set(fmt.Errorf("another worker uses %s", s.cfg.StateDirectory))
			s.log.Warn("waiting: another worker uses the state directory", "path", s.cfg.StateDirectory)
			said = true
		}
		if !sleep(ctx, 100*time.Millisecond) {
			f.Close()
			return func() {}, nil
		}
	}
}

// await returns when the database is ready, false when ctx ended before.
func (s *service) await(ctx context.Context) bool {
	var last string
	for {
		err := s.ready(ctx)
		if err == nil {
			return true
		}
		if ctx.Err() == nil && err.Error() != last {
			last = err.Error()
			if errors.Is(err, store.ErrSchema) {
				s.log.Error("waiting for the schema", "error", err)
			} else {
				s.log.Warn("waiting for PostgreSQL", "error", err)
			}
		}
		if !sleep(ctx, readyRetry) {
			return false
		}
	}
}

// ready asks the database and tells /healthz.
func (s *service) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	err := s.store.Ready(ctx)
	switch {
	case err == nil:
		s.health.set(nil)
	case errors.Is(err, store.ErrSchema): // it says what to run
		s.health.set(err)
	default:
		s.health.set(fmt.Errorf("waiting for PostgreSQL: %w", err))
	}
	return err
}

// watch keeps /healthz true while all runs.
func (s *service) watch(ctx context.Context) {
	for wait := readyCheck; sleep(ctx, wait); {
		if wait = readyCheck; s.ready(ctx) != nil {
			wait = readyRetry
		}
	}
}

// healthy is asked by /healthz.
func (s *service) healthy() error {
	if err := s.health.get(); err != nil {
		return err
	}
	switch {
	case !s.directory.Loaded():
		return errors.New("the directory is not loaded yet")
	case !s.jobs.Running():
		return errors.New("jobs are not worked yet")
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// name is this worker's in the job queue: the same after a restart, and no
// other's, since the state directory is locked.
func (s *service) name() string {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	dir, err := filepath.Abs(s.cfg.StateDirectory)
	if err != nil {
		dir = s.cfg.StateDirectory
	}
	sum := sha256.Sum256([]byte(dir)) // River takes 100 characters at most
	return fmt.Sprintf("%.60s-%x", host, sum[:8])
}
