package main

import (
	"time"

	"github.com/riverqueue/river"

	"understudy/internal/archive/ship"
	"understudy/internal/config"
	"understudy/internal/delivery"
	"understudy/internal/job"
	"understudy/internal/portal"
	"understudy/worker/drain"
	"understudy/worker/expire"
	"understudy/worker/jobs"
	"understudy/worker/redeliver"
	"understudy/worker/reroute"
	wship "understudy/worker/ship"
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
	bucket, err := ship.NewBucket(cfg.ArchiveBucket.Config)
	if err != nil {
		return err
	}
	mail := ship.Reader{Dir: cfg.ArchiveDirectory, Bucket: bucket}
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
	river.AddWorker(workers, redeliver.New(redeliver.Config{
		Directory: s.directory, Store: s.store, Delivery: &delivery.Client{Helo: cfg.HeloName}, Reentry: cfg.ReentryAddress, Timeout: cfg.Drain.Timeout,
		Open: mail.ReadRecord, Log: s.log, Metrics: s.registry,
	}))
	river.AddWorker(workers, &jobs.Partitions{Store: s.store})
	river.AddWorker(workers, expire.New(cfg.ArchiveDirectory, s.store, s.log, s.registry))
	periodic := []*river.PeriodicJob{river.NewPeriodicJob(river.PeriodicInterval(time.Hour),
		func() (river.JobArgs, *river.InsertOpts) { return job.Retention{}, nil }, &river.PeriodicJobOpts{RunOnStart: true})}
	river.AddWorker(workers, wship.New(wship.Config{Dir: cfg.ArchiveDirectory, Bucket: bucket, Store: s.store,
		After: cfg.ArchiveBucket.ShipAfter, KeepLocal: cfg.ArchiveBucket.KeepLocal, Log: s.log, Metrics: s.registry}))
	periodic = append(periodic, river.NewPeriodicJob(river.PeriodicInterval(wship.Interval),
		func() (river.JobArgs, *river.InsertOpts) { return job.Ship{}, nil }, &river.PeriodicJobOpts{RunOnStart: true}))
	s.jobs = &jobs.Runner{Pool: s.store.Pool, Store: s.store, ID: s.name(), Workers: workers, SweepInterval: cfg.Drain.SweepInterval, Periodic: periodic,
		Longest: cfg.Drain.Timeout + 8*time.Minute, Log: s.log, Metrics: s.registry}
	return nil
}
