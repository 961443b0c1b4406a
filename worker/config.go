package main

import (
	"errors"
	"fmt"
	"time"

	"understudy/internal/archive/ship"
	"understudy/internal/config"
)

// settings is the file worker.yml.
type settings struct {
	config.Common    `yaml:",inline"`
	ArchiveDirectory string        `yaml:"archive_directory"`
	ArchiveBucket    bucketKeys    `yaml:"archive_bucket"`
	PolicydControl   string        `yaml:"policyd_control"` // path of policyd's control socket
	Postqueue        []string      `yaml:"postqueue"`       // command and arguments, for example [/usr/sbin/postqueue, -c, /etc/postfix]
	HeloName         string        `yaml:"helo_name"`
	ReentryAddress   string        `yaml:"reentry_address"` // host:port of Postfix's re-entry listener, the way into the portal
	Probe            probeKeys     `yaml:"probe"`
	Detector         detectorKeys  `yaml:"detector"`
	Portal           portalKeys    `yaml:"portal"`
	Drain            drainKeys     `yaml:"drain"`
	IndexInterval    time.Duration `yaml:"index_interval"` // between looks at the archive
}

// bucketKeys say where sealed segments are shipped to (docs/shipping.md).
type bucketKeys struct {
	ship.Config `yaml:",inline"`
	ShipAfter   time.Duration `yaml:"ship_after"` // age of a segment, from its start, at which it is sent
	KeepLocal   time.Duration `yaml:"keep_local"` // and at which the local one is removed, if it was
}

type probeKeys struct {
	Interval     time.Duration `yaml:"interval"`      // between probes while all is well
	FastInterval time.Duration `yaml:"fast_interval"` // and while something is not
	Timeout      time.Duration `yaml:"timeout"`       // of one probe
}

type detectorKeys struct {
	Failures     int           `yaml:"failures"`      // failed probes in a row before an emergency
	RecoverAfter time.Duration `yaml:"recover_after"` // healthy without a break before the return
	RecoverMax   time.Duration `yaml:"recover_max"`   // what that grows to by flapping
	FlapWindow   time.Duration `yaml:"flap_window"`   // an emergency this soon after a return is a flap
}

type portalKeys struct {
	DoveadmURL         string `yaml:"doveadm_url"`
	DoveadmAPIKeyFile  string `yaml:"doveadm_api_key_file"`
	IMAPAddress        string `yaml:"imap_address"` // host:port
	MasterUser         string `yaml:"master_user"`
	MasterPasswordFile string `yaml:"master_password_file"`
}

type drainKeys struct {
	SweepInterval time.Duration `yaml:"sweep_interval"` // between looks for single messages that fell back
	Concurrency   int           `yaml:"concurrency"`    // mailboxes of a domain at once
	Timeout       time.Duration `yaml:"timeout"`        // of one run for a domain
}

// defaults are the values of keys that a file leaves out.
func defaults() *settings {
	return &settings{
		ArchiveBucket: bucketKeys{ShipAfter: 15 * time.Minute, KeepLocal: 7 * 24 * time.Hour},
		Probe:         probeKeys{Interval: 10 * time.Second, FastInterval: time.Second, Timeout: 5 * time.Second},
		Detector:      detectorKeys{Failures: 3, RecoverAfter: 2 * time.Minute, RecoverMax: 30 * time.Minute, FlapWindow: time.Hour},
		Drain:         drainKeys{SweepInterval: time.Minute, Concurrency: 4, Timeout: 5 * time.Minute},
		IndexInterval: 500 * time.Millisecond,
	}
}

// Validate checks the values.
func (s *settings) Validate() error {
	errs := []error{s.Common.Validate(), s.ArchiveBucket.Validate(),
		config.Positive("archive_bucket.ship_after", s.ArchiveBucket.ShipAfter), config.Positive("archive_bucket.keep_local", s.ArchiveBucket.KeepLocal),
		config.Required("archive_directory", s.ArchiveDirectory), config.Required("policyd_control", s.PolicydControl),
		config.Required("helo_name", s.HeloName), config.Required("reentry_address", s.ReentryAddress),
		config.Required("portal.doveadm_url", s.Portal.DoveadmURL), config.Required("portal.doveadm_api_key_file", s.Portal.DoveadmAPIKeyFile),
		config.Required("portal.imap_address", s.Portal.IMAPAddress), config.Required("portal.master_user", s.Portal.MasterUser),
		config.Required("portal.master_password_file", s.Portal.MasterPasswordFile),
		config.Positive("probe.interval", s.Probe.Interval), config.Positive("probe.fast_interval", s.Probe.FastInterval),
		config.Positive("probe.timeout", s.Probe.Timeout), config.Positive("detector.failures", s.Detector.Failures),
		config.Positive("detector.recover_after", s.Detector.RecoverAfter), config.Positive("detector.recover_max", s.Detector.RecoverMax),
		config.Positive("detector.flap_window", s.Detector.FlapWindow), config.Positive("drain.sweep_interval", s.Drain.SweepInterval),
		config.Positive("drain.concurrency", s.Drain.Concurrency), config.Positive("drain.timeout", s.Drain.Timeout),
		config.Positive("index_interval", s.IndexInterval),
	}
	if len(s.Postqueue) == 0 || s.Postqueue[0] == "" {
		errs = append(errs, errors.New("postqueue: is missing"))
	}
	if s.Probe.FastInterval > s.Probe.Interval {
		errs = append(errs, fmt.Errorf("probe.fast_interval: is %v, more than probe.interval (%v)", s.Probe.FastInterval, s.Probe.Interval))
	}
	if s.Detector.RecoverMax < s.Detector.RecoverAfter {
		errs = append(errs, fmt.Errorf("detector.recover_max: is %v, less than detector.recover_after (%v)", s.Detector.RecoverMax, s.Detector.RecoverAfter))
	}
	return errors.Join(errs...)
}
