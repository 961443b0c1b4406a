package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"understudy/dovecot-auth/account"
	"understudy/dovecot-auth/lockout"
	"understudy/dovecot-auth/luaserver"
	"understudy/dovecot-auth/saslserver"
	"understudy/internal/directory"
	"understudy/internal/listen"
	"understudy/internal/observe"
	"understudy/internal/password"
)

const lockoutSaveInterval = 30 * time.Second

// run serves until ctx ends; then it answers what is under way and saves.
func run(ctx context.Context, cfg *Config, log *slog.Logger) error {
	pool, err := cfg.Database.PoolConfig()
	if err != nil {
		return err
	}
	// First: who connects while a large directory is loaded waits, and is not
	// told that logins do not work now.
	lua, err := listen.Open(cfg.LuaListen)
	if err != nil {
		return err
	}
	defer lua.Close()
	sasl, err := listen.Open(cfg.SASLListen)
	if err != nil {
		return err
	}
	defer sasl.Close()
	reg := observe.Registry()
	dir := directory.Open(directoryFile(cfg), log)
	locks, err := loadLockout(cfg, log)
	if err != nil {
		return err
	}
	verifier := password.NewVerifier(cfg.VerifyConcurrency, cfg.VerifyQueue)
	registerGauges(reg, verifier, locks)
	accounts := account.New(dir, verifier, locks, account.Place{Directory: cfg.MailDirectory, UID: cfg.MailUID, GID: cfg.MailGID,
		DefaultQuota: cfg.DefaultQuotaBytes}, account.NewMetrics(reg), log, time.Now)

	var ending atomic.Bool
	health := func() error {
		switch {
		case ending.Load():
			return errors.New("ending")
		case !dir.Loaded():
			return errors.New("the directory is not loaded yet")
		}
		return nil
	}
	follower := &directory.Follower{Directory: dir, Config: pool.ConnConfig, File: directoryFile(cfg), Credentials: true, Log: log, Metrics: reg}
	servers := newServers(reg, log, cfg.MaxConnections)
	g, ctx := errgroup.WithContext(ctx)
	context.AfterFunc(ctx, func() { ending.Store(true) })
	g.Go(func() error { return follower.Run(ctx) })
	g.Go(func() error { return observe.Serve(ctx, cfg.MetricsListen, reg, health) })
	g.Go(func() error {
		return servers("lua", (&luaserver.Server{Accounts: accounts, Log: log}).Handle).Serve(ctx, lua)
	})
	g.Go(func() error {
		return servers("sasl", (&saslserver.Server{Accounts: accounts, Log: log, Now: time.Now}).Handle).Serve(ctx, sasl)
	})
	g.Go(func() error { saveLockout(ctx, locks, lockoutFile(cfg), log); return nil })
	log.Info("serving", "lua", cfg.LuaListen, "sasl", cfg.SASLListen, "directory_loaded", dir.Loaded())
	err = g.Wait()
	// Once more: connections answered their last request after the saver ended.
	return errors.Join(err, locks.Save(lockoutFile(cfg)))
}

func directoryFile(cfg *Config) string { return filepath.Join(cfg.StateDirectory, "directory.json") }
func lockoutFile(cfg *Config) string   { return filepath.Join(cfg.StateDirectory, "lockout.json") }

func loadLockout(cfg *Config, log *slog.Logger) (*lockout.Lockout, error) {
	locks, err := lockout.New(cfg.Lockout, time.Now)
	if err != nil {
		return nil, fmt.Errorf("set lockout up: %w", err)
	}
	if err := locks.Load(lockoutFile(cfg)); err != nil {
		log.Error("lockout counts are lost; starting without", "error", err)
	}
	return locks, nil
}

// saveLockout saves the counts now and then until ctx ends.
func saveLockout(ctx context.Context, locks *lockout.Lockout, path string, log *slog.Logger) {
	ticker := time.NewTicker(lockoutSaveInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if err := locks.Save(path); err != nil {
				log.Error("lockout counts are not saved", "error", err)
			}
		}
	}
}

// newServers makes the servers of both sockets, with metrics of their own.
func newServers(reg prometheus.Registerer, log *slog.Logger, limit int) func(string, func(context.Context, net.Conn)) *listen.Server {
	open := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "understudy_auth_open_connections",
		Help: "Connections of Dovecot (lua) and Postfix (sasl)."}, []string{"listener"})
	panics := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "understudy_auth_panics_total",
		Help: "Connections that ended by a panic."}, []string{"listener"})
	reg.MustRegister(open, panics)
	return func(name string, handle func(context.Context, net.Conn)) *listen.Server {
		return &listen.Server{Name: name, Max: limit, Handle: handle, Log: log,
			Open: open.WithLabelValues(name), Panics: panics.WithLabelValues(name)}
	}
}

func registerGauges(reg prometheus.Registerer, v *password.Verifier, l *lockout.Lockout) {
	gauge := func(name, help string, labels prometheus.Labels, f func() float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, f))
	}
	gauge("understudy_auth_verifier_waiting", "Logins that wait for a password verification.", nil,
		func() float64 { return float64(v.Waiting()) })
	gauge("understudy_auth_verifier_running", "Password verifications under way.", nil,
		func() float64 { return float64(v.Running()) })
	const locked, help = "understudy_auth_locked", "Accounts and client addresses refused after wrong passwords."
	gauge(locked, help, prometheus.Labels{"kind": "account"}, func() float64 { n, _ := l.Locked(); return float64(n) })
	gauge(locked, help, prometheus.Labels{"kind": "address"}, func() float64 { _, n := l.Locked(); return float64(n) })
}
