// Package limit holds each sender of outbound mail to so many recipients an
// hour, with a burst, and a day.
//
// The counts live in memory alone: they start anew with the process. Their
// number is bounded; when there are too many, those are forgotten that have
// least to tell.
package limit

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"time"
)

// Kind says what sort of sender is limited.
type Kind string

// The kinds.
const (
	Mailbox Kind = "mailbox" // a portal user, signed in
	Account Kind = "account" // a customer's server, signed in
	Network Kind = "network" // a customer's servers by their addresses: one count a domain
)

// Key is one sender: the number of its mailbox, account or domain.
type Key struct {
	Kind Kind
	ID   int64
}

// Rate is what a sender may do, in recipients. 0 is no limit.
type Rate struct {
	PerHour int `yaml:"per_hour"` // in the long run
	Burst   int `yaml:"burst"`    // at once, after a quiet time
	PerDay  int `yaml:"per_day"`  // in 24 hours from the first one
}

// Config is the rates of senders that have none of their own.
type Config struct {
	Mailbox Rate `yaml:"mailbox"`
	Account Rate `yaml:"account"`
	Network Rate `yaml:"network"`
}

// Default suits people and a customer's usual mail, not mailing lists.
func Default() Config {
	servers := Rate{PerHour: 10_000, Burst: 2_000, PerDay: 100_000}
	return Config{Mailbox: Rate{PerHour: 200, Burst: 100, PerDay: 1_000}, Account: servers, Network: servers}
}

// Validate checks the rates.
func (c *Config) Validate() error {
	var errs []error
	for kind, r := range map[Kind]Rate{Mailbox: c.Mailbox, Account: c.Account, Network: c.Network} {
		switch {
		case r.PerHour < 0 || r.Burst < 0 || r.PerDay < 0:
			errs = append(errs, fmt.Errorf("limits.%s: must not be negative; 0 is no limit", kind))
		case r.PerHour > 0 && r.Burst == 0:
			errs = append(errs, fmt.Errorf("limits.%s.burst: must be at least 1 beside per_hour", kind))
		}
	}
	return errors.Join(errs...)
}

// Own returns the rate with a sender's own numbers in place of those that are
// not 0. The burst keeps its proportion to the hour.
func (r Rate) Own(perHour, perDay int) Rate {
	if perHour > 0 {
		burst := float64(perHour)
		if r.PerHour > 0 {
			burst *= float64(r.Burst) / float64(r.PerHour)
		}
		r.PerHour, r.Burst = perHour, max(1, int(burst))
	}
	if perDay > 0 {
		r.PerDay = perDay
	}
	return r
}

const (
	day     = 24 * time.Hour
	maxKeys = 200_000
	samples = 16 // looked at to find one that may be forgotten
)

// count is what is known of one sender.
type count struct {
	spent float64 // of the burst, at
	at    time.Time
	since time.Time // of the day's count
	today int
}

// Limits counts. Its methods may be called at once from many goroutines.
type Limits struct {
	mu     sync.Mutex
	counts map[Key]count
	max    int
}

// New returns Limits that have counted nothing.
func New() *Limits { return &Limits{counts: map[Key]count{}, max: maxKeys} }

// Len is how many senders are remembered.
func (l *Limits) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.counts)
}

// Answer says whether one more recipient is within the limits.
type Answer struct {
	OK      bool
	DayOver bool          // refused by the day's limit, else by the hour's
	Wait    time.Duration // until it would be
}

// Take counts one recipient of a sender, unless that is over its limits.
func (l *Limits) Take(k Key, r Rate, now time.Time) Answer {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.counts[k].present(r, now)
	if r.PerDay > 0 && c.today >= r.PerDay {
		return Answer{DayOver: true, Wait: day - now.Sub(c.since)}
	}
	if r.PerHour > 0 && c.spent > float64(r.Burst-1) {
		hours := (c.spent - float64(r.Burst-1)) / float64(r.PerHour)
		return Answer{Wait: time.Duration(math.Ceil(hours * float64(time.Hour)))}
	}
	if r.PerHour > 0 {
		c.spent++
	}
	c.today++
	if _, known := l.counts[k]; !known && len(l.counts) >= l.max {
		l.forget()
	}
	l.counts[k] = c
	return Answer{OK: true}
}

// present is a count brought to the present: what time has given back is back.
func (c count) present(r Rate, now time.Time) count {
	if c.since.IsZero() || now.Sub(c.since) >= day {
		c.since, c.today = now, 0
	}
	if passed := now.Sub(c.at); !c.at.IsZero() && passed > 0 {
		c.spent = max(0, c.spent-passed.Hours()*float64(r.PerHour))
	}
	c.at = now
	return c
}

// forget makes room: of a few senders, the one that sent least.
func (l *Limits) forget() {
	var least Key
	n := 0
	for k, c := range l.counts { // in no order
		if n == 0 || c.today < l.counts[least].today {
			least = k
		}
		if n++; n == samples {
			break
		}
	}
	delete(l.counts, least)
}
