package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"understudy/internal/directory"
	"understudy/internal/evidence"
	"understudy/internal/listen"
	"understudy/internal/observe"
	"understudy/policyd/limit"
	"understudy/policyd/policy"
	"understudy/policyd/session"
	"understudy/policyd/socketmap"
)

// service is a policyd with its sockets open.
type service struct {
	cfg     *Config
	log     *slog.Logger
	reg     *prometheus.Registry
	dir     *directory.Directory
	ring    *evidence.Ring
	follow  *directory.Follower
	gate    *policy.Gate
	open    [3]net.Listener // policy, socketmap, control
	serving atomic.Bool
}

// run is the whole service, until ctx ends.
func run(ctx context.Context, cfg *Config, log *slog.Logger) error {
	s, err := start(cfg, log)
	if err != nil {
		return err
	}
	return s.serve(ctx)
}

// start opens the sockets and loads the saved directory. Whoever connects
// meanwhile waits: a large directory takes seconds, and Postfix, refused twice
// within one, would answer 451 by itself.
func start(cfg *Config, log *slog.Logger) (*service, error) {
	pool, err := cfg.Database.PoolConfig()
	if err != nil {
		return nil, err
	}
	s := &service{cfg: cfg, log: log, reg: observe.Registry(), ring: evidence.NewRing()}
	if s.gate, err = policy.NewGate(cfg.ReentryUsers); err != nil {
		return nil, err
	}
	for i, where := range []string{cfg.PolicyListen, cfg.SocketmapListen, cfg.ControlListen} {
		if s.open[i], err = listen.Open(where); err != nil {
			s.close()
			return nil, err
		}
	}
	file := filepath.Join(cfg.StateDirectory, "directory.json")
	s.dir = directory.Open(file, log)
	s.follow = &directory.Follower{Directory: s.dir, Config: pool.ConnConfig, File: file, Log: log, Metrics: s.reg}
	return s, nil
}

func (s *service) close() {
	for _, l := range s.open {
		if l != nil {
			l.Close()
		}
	}
}

// serve answers until ctx ends or a part breaks; then all parts end.
func (s *service) serve(ctx context.Context) error {
	defer s.close()
	metrics := session.NewMetrics(s.reg)
	limits := limit.New()
	s.reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "understudy_policyd_limited_senders",
		Help: "Senders whose recipients are counted; bounded."}, func() float64 { return float64(limits.Len()) }))
	maps := &socketmap.Maps{Directory: s.dir, PortalTransport: s.cfg.PortalTransport,
		Deliveries: &socketmap.Deliveries{Directory: s.dir, Ring: s.ring}}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.follow.Run(ctx) })
	g.Go(func() error {
		from := policy.Sources{Directory: s.dir, Ring: s.ring, Rates: s.cfg.Limits, Limits: limits, Gate: s.gate}
		return policy.NewServer(from, s.cfg.MaxConnections, s.log, metrics).Serve(ctx, s.open[0])
	})
	g.Go(func() error {
		return socketmap.NewServer(maps, s.cfg.MaxConnections, s.log, metrics).Serve(ctx, s.open[1])
	})
	g.Go(func() error { return observe.ServeHTTP(ctx, s.open[2], control(ctx, s.dir, s.ring)) })
	g.Go(func() error { return observe.Serve(ctx, s.cfg.MetricsListen, s.reg, s.health) })
	s.serving.Store(true)
	context.AfterFunc(ctx, func() { s.serving.Store(false) })
	s.log.Info("started", "policy", s.cfg.PolicyListen, "socketmap", s.cfg.SocketmapListen,
		"control", s.cfg.ControlListen, "directory_loaded", s.dir.Loaded(), "directory_version", s.dir.Version())
	err := g.Wait()
	s.log.Info("stopped")
	return err
}

// health is nil while mail decisions can be made.
func (s *service) health() error {
	switch {
	case !s.serving.Load():
		return errors.New("not serving")
	case !s.dir.Loaded():
		return errors.New("directory not loaded: no saved file, and PostgreSQL not yet reached")
	}
	return nil
}
