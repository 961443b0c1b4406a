package main

import (
	"errors"
	"fmt"
	"net"
	"time"

	"understudy/internal/archive/ship"
	"understudy/internal/config"
)

// settings is the file worker.yml.
type settings struct {
	config.Common    `yaml:",inline"`
	ArchiveDirectory string        `yaml:"archive_directory"`
	IdentityFile     string        `yaml:"archive_identity_file"` // secret keys of age for an encrypted archive; may be empty
	ArchiveBucket    bucketKeys    `yaml:"archive_bucket"`
	PolicydControl   string        `yaml:"policyd_control"` // path of policyd's control socket
	Postqueue        []string      `yaml:"postqueue"`       // command and arguments, for example [/usr/sbin/postqueue, -c, /etc/postfix]
	HeloName         string        `yaml:"helo_name"`
	ReentryAddress   string        `yaml:"reentry_address"` // host:port of Postfix's listener reentry_quiet, the way into the portal
	Probe            probeKeys     `yaml:"probe"`
	Detector         detectorKeys  `yaml:"detector"`
	Vantage          vantageKeys   `yaml:"vantage"`
	Portal           portalKeys    `yaml:"portal"`
	Drain            drainKeys     `yaml:"drain"`
	Recipients       recipientKeys `yaml:"recipients"`
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
	Timeout      time.Duration `yaml:"timeout"`       // of a connection; the dialogue then has four times as long
}

// detectorKeys are for domains that have no settings of their own.
type detectorKeys struct {
	Failures     int           `yaml:"failures"`      // failed probes in a row before an emergency
	Storm        int           `yaml:"storm"`         // deliveries refused for everybody before one; 0: never by these
	RecoverAfter time.Duration `yaml:"recover_after"` // healthy without a break before the return
	RecoverMax   time.Duration `yaml:"recover_max"`   // what that grows to by flapping
	FlapWindow   time.Duration `yaml:"flap_window"`   // an emergency this soon after a return is a flap
}

// vantageKeys say when to suspect our own network (docs/detection.md).
type vantageKeys struct {
	Share      float64       `yaml:"share"`       // of all sets of primaries that fail at once
	MinDomains int           `yaml:"min_domains"` // and at least so many; 0: never suspect
	SecondLook time.Duration `yaml:"second_look"` // how long to wait before anything is switched
	Witnesses  []string      `yaml:"witnesses"`   // host:port of servers elsewhere, asked for a TCP connection
}

type portalKeys struct {
	DoveadmURL         string `yaml:"doveadm_url"`
	DoveadmAPIKeyFile  string `yaml:"doveadm_api_key_file"`
	IMAPAddress        string `yaml:"imap_address"` // host:port
	MasterUser         string `yaml:"master_user"`
	MasterPasswordFile string `yaml:"master_password_file"`
}

type drainKeys struct {
	SweepInterval time.Duration `yaml:"sweep_interval"` // between looks for what is due
	Concurrency   int           `yaml:"concurrency"`    // mailboxes of a domain at once
	Timeout       time.Duration `yaml:"timeout"`        // for one message, from its fetch to the primary's last reply
}

// recipientKeys say how primaries are asked who exists (docs/recipients.md).
type recipientKeys struct {
	Interval   time.Duration `yaml:"interval"`    // between looks for something to ask
	CheckEvery time.Duration `yaml:"check_every"` // age at which an answer is asked for again
	PerMinute  int           `yaml:"per_minute"`  // addresses asked of one domain
	MarkAfter  time.Duration `yaml:"mark_after"`  // how long an address is refused until people are told
}

// defaults are the values of keys that a file leaves out.
func defaults() *settings {
	return &settings{
		ArchiveBucket: bucketKeys{ShipAfter: 15 * time.Minute, KeepLocal: 7 * 24 * time.Hour},
		Probe:         probeKeys{Interval: 10 * time.Second, FastInterval: time.Second, Timeout: 5 * time.Second},
		Detector:      detectorKeys{Failures: 3, Storm: 6, RecoverAfter: 2 * time.Minute, RecoverMax: 30 * time.Minute, FlapWindow: time.Hour},
		Vantage:       vantageKeys{Share: 0.5, MinDomains: 3, SecondLook: 30 * time.Second},
		Drain:         drainKeys{SweepInterval: time.Minute, Concurrency: 4, Timeout: 5 * time.Minute},
		Recipients:    recipientKeys{Interval: time.Minute, CheckEvery: 24 * time.Hour, PerMinute: 30, MarkAfter: 14 * 24 * time.Hour},
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
		config.Positive("recipients.interval", s.Recipients.Interval), config.Positive("recipients.check_every", s.Recipients.CheckEvery),
		config.Positive("recipients.per_minute", s.Recipients.PerMinute), config.Positive("recipients.mark_after", s.Recipients.MarkAfter),
	}
	if len(s.Postqueue) == 0 || s.Postqueue[0] == "" {
		errs = append(errs, errors.New("postqueue: is missing"))
	}
	if s.Probe.FastInterval > s.Probe.Interval {
		errs = append(errs, fmt.Errorf("probe.fast_interval: is %v, more than probe.interval (%v)", s.Probe.FastInterval, s.Probe.Interval))
	}
	errs = append(errs, s.Vantage.validate())
	if s.Detector.Storm < 0 {
		errs = append(errs, fmt.Errorf("detector.storm: is %d, less than 0", s.Detector.Storm))
	}
	if s.Detector.RecoverMax < s.Detector.RecoverAfter {
		errs = append(errs, fmt.Errorf("detector.recover_max: is %v, less than detector.recover_after (%v)", s.Detector.RecoverMax, s.Detector.RecoverAfter))
	}
	return errors.Join(errs...)
}

func (v *vantageKeys) validate() error {
	var errs []error
	if v.Share <= 0 || v.Share > 1 {
		errs = append(errs, fmt.Errorf("vantage.share: is %v, not between 0 and 1", v.Share))
	}
	if v.MinDomains < 0 {
		errs = append(errs, fmt.Errorf("vantage.min_domains: is %d, less than 0", v.MinDomains))
	}
	if v.MinDomains > 0 {
		errs = append(errs, config.Positive("vantage.second_look", v.SecondLook))
	}
	for _, w := range v.Witnesses {
		if host, port, err := net.SplitHostPort(w); err != nil || host == "" || port == "" {
			errs = append(errs, fmt.Errorf("vantage.witnesses: %q is not host:port", w))
		}
	}
	return errors.Join(errs...)
}
