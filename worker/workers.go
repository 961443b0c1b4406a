package main

import (
	"time"

	"github.com/riverqueue/river"

	"understudy/internal/config"
	"understudy/internal/delivery"
	"understudy/internal/portal"
	"understudy/worker/drain"
	"understudy/worker/jobs"
	"understudy/worker/reroute"
)

// prepareJobs makes the workers of all kinds of jobs. It reads secrets, but
// connects nowhere.
func (s *service) prepareJobs() error {
	cfg := s.cfg
	key, err := config.Secret(cfg.Portal.DoveadmAPIKeyFile)
	if err != nil {
		return err
	}
	password, err := config.Secret(cfg.Portal.MasterPasswordFile)
	if err != nil {
		return err
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, drain.New(drain.Config{
		Directory: s.directory, Ledger: s.store, Concurrency: cfg.Drain.Concurrency, Timeout: cfg.Drain.Timeout, Log: s.log, Metrics: s.registry,
		Portal: portal.New(portal.Config{DoveadmURL: cfg.Portal.DoveadmURL, APIKey: key, IMAPAddress: cfg.Portal.IMAPAddress,
			MasterUser: cfg.Portal.MasterUser, MasterPassword: password}),
		Delivery: &delivery.Client{Helo: cfg.HeloName},
	}))
	river.AddWorker(workers, drain.NewSweep(s.directory, s.store, s.log))
	river.AddWorker(workers, reroute.New(reroute.Config{Changes: s.store, Postqueue: cfg.Postqueue, Control: cfg.PolicydControl,
		Log: s.log, Metrics: s.registry}))
	river.AddWorker(workers, &jobs.Partitions{Store: s.store})
	s.jobs = &jobs.Runner{Pool: s.store.Pool, Store: s.store, ID: s.name(), Workers: workers, SweepInterval: cfg.Drain.SweepInterval,
		Longest: cfg.Drain.Timeout + 3*time.Minute, Log: s.log, Metrics: s.registry}
	return nil
}
