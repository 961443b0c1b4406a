package main

import (
	"fmt"
	"time"

	"github.com/riverqueue/river"

	"understudy/internal/archive"
	"understudy/internal/archive/ship"
	"understudy/internal/config"
	"understudy/internal/delivery"
	"understudy/internal/evidence"
	"understudy/internal/portal"
	"understudy/worker/drain"
	"understudy/worker/expire"
	"understudy/worker/jobs"
	"understudy/worker/redeliver"
	"understudy/worker/reroute"
	wship "understudy/worker/ship"
)

// prepareJobs makes the workers of all kinds of jobs, and what looks after
// this gateway's disk and queue. It reads secrets, but connects nowhere.
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
	keys, err := archive.LoadIdentities(cfg.IdentityFile)
	if err != nil {
		return fmt.Errorf("archive_identity_file: %w", err)
	}
	s.archive = ship.Reader{Dir: cfg.ArchiveDirectory, Bucket: bucket, Identities: keys}
	workers := river.NewWorkers()
	drainer := drain.New(drain.Config{
		Gateway: cfg.GatewayName(), Directory: s.directory, Ledger: s.store, Concurrency: cfg.Drain.Concurrency, Timeout: cfg.Drain.Timeout, Log: s.log, Metrics: s.registry,
		Portal: portal.New(portal.Config{DoveadmURL: cfg.Portal.DoveadmURL, APIKey: key, IMAPAddress: cfg.Portal.IMAPAddress,
			MasterUser: cfg.Portal.MasterUser, MasterPassword: password}),
		Delivery: &delivery.Client{Helo: cfg.HeloName},
	})
	river.AddWorker(workers, drainer)
	s.sweep = drain.NewSweep(drainer, s.store, evidence.NewClient(cfg.PolicydControl), cfg.Drain.SweepInterval)
	s.rerouter = reroute.New(reroute.Config{Directory: s.directory, Postqueue: cfg.Postqueue, Control: cfg.PolicydControl,
		Reentry: cfg.ReentryAddress, Delivery: &delivery.Client{Helo: cfg.HeloName}, Log: s.log, Metrics: s.registry})
	river.AddWorker(workers, redeliver.New(redeliver.Config{
		Directory: s.directory, Store: s.store, Delivery: &delivery.Client{Helo: cfg.HeloName}, Reentry: cfg.ReentryAddress, Timeout: cfg.Drain.Timeout,
		Gateway: cfg.GatewayName(), Open: s.archive.ReadRecord, Log: s.log, Metrics: s.registry,
	}))
	river.AddWorker(workers, &jobs.Partitions{Store: s.store})
	s.expiry = expire.New(expire.Config{Dir: cfg.ArchiveDirectory, Host: cfg.GatewayName(), Store: s.store, Log: s.log, Metrics: s.registry})
	s.shipper = wship.New(wship.Config{Dir: cfg.ArchiveDirectory, Bucket: bucket, Store: s.store,
		After: cfg.ArchiveBucket.ShipAfter, KeepLocal: cfg.ArchiveBucket.KeepLocal, Log: s.log, Metrics: s.registry})
	s.jobs = &jobs.Runner{Pool: s.store.Pool, Store: s.store, ID: s.name(), Gateway: cfg.GatewayName(), Workers: workers,
		Longest: cfg.Drain.Timeout + 8*time.Minute, Log: s.log, Metrics: s.registry}
	return nil
}
