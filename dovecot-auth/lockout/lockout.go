// Package lockout slows the guessing of passwords down: after some wrong ones
// an account, or a client's address, is refused for a while, and for longer
// after each further one. Even the right password is refused then, or a
// guesser would learn it.
//
// Accounts that do not exist are locked like those that do, so that being
// locked tells nothing. A password repeated is one guess: a phone that still
// sends last week's password does not lock its owner out.
//
// All is kept in memory, bounded, and saved to a file now and then and at the
// end; losing it forgives failures and harms nothing else.
package lockout

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"understudy/internal/config"
)

// Config is the "lockout" part of the service's configuration.
type Config struct {
	Failures        int           `yaml:"failures"`         // wrong passwords after which an account is locked
	AddressFailures int           `yaml:"address_failures"` // the same for a client address
	Delay           time.Duration `yaml:"delay"`            // the first lock; each further failure doubles it
	MaxDelay        time.Duration `yaml:"max_delay"`        // no lock is longer
	Forget          time.Duration `yaml:"forget"`           // failures are forgotten so long after the last one
	MaxEntries      int           `yaml:"max_entries"`      // accounts, and addresses, remembered; the oldest go first
	ExemptAddresses []string      `yaml:"exempt_addresses"` // never locked: where many users share an address, as webmail does
}

// Default is the configuration where the file says nothing.
func Default() Config {
	return Config{Failures: 5, AddressFailures: 30, Delay: 30 * time.Second, MaxDelay: 15 * time.Minute, Forget: 2 * time.Hour,
		MaxEntries: 50_000, ExemptAddresses: []string{"127.0.0.0/8", "::1/128"}}
}

// Validate checks the values.
func (c *Config) Validate() error {
	_, exempt := c.exempt()
	var order error
	if c.Forget < c.MaxDelay || c.MaxDelay < c.Delay {
		order = errors.New("lockout: want delay <= max_delay <= forget")
	}
	return errors.Join(config.Positive("lockout.failures", c.Failures), config.Positive("lockout.address_failures", c.AddressFailures),
		config.Positive("lockout.delay", c.Delay), config.Positive("lockout.max_entries", c.MaxEntries), order, exempt)
}

func (c *Config) exempt() ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range c.ExemptAddresses {
		p, err := netip.ParsePrefix(s)
		if a, e := netip.ParseAddr(s); e == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return nil, fmt.Errorf("lockout.exempt_addresses: %q is neither an address nor a network", s)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// Guess is a keyed fingerprint of an account and a password tried, by which a
// repetition is known. The zero Guess is never a repetition.
type Guess [16]byte

// Lockout counts failures. Its methods may be called at once from many
// goroutines.
type Lockout struct {
	config Config
	exempt []netip.Prefix
	now    func() time.Time

	mu        sync.Mutex
	accounts  table
	addresses table
	changes   int // since the beginning
	saved     int // value of changes when last saved
}

// New makes an empty Lockout. now is the clock.
func New(c Config, now func() time.Time) (*Lockout, error) {
	exempt, err := c.exempt()
	if err != nil {
		return nil, err
	}
	l := &Lockout{config: c, exempt: exempt, now: now}
	l.accounts = newTable(c.Failures, &l.config)
	l.addresses = newTable(c.AddressFailures, &l.config)
	return l, nil
}

// Wait is how long logins to account ("" for none) from ip (the zero Addr if
// unknown) are still refused; zero or less if they are not.
func (l *Lockout) Wait(account string, ip netip.Addr) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	return max(l.accounts.wait(account, now), l.addresses.wait(l.addressKey(ip), now))
}

// Failed counts a wrong password, and reports whether it locked the account
// or the address.
func (l *Lockout) Failed(account string, ip netip.Addr, guess Guess) (lockedAccount, lockedAddress bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	l.changes++
	return l.accounts.fail(account, guess, now), l.addresses.fail(l.addressKey(ip), guess, now)
}

// Succeeded forgives the account. Its address is not forgiven: else a guesser
// who owns one mailbox could log into it between guesses.
func (l *Lockout) Succeeded(account string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.accounts.forget(account) {
		l.changes++
	}
}

// Locked counts what is locked now. It walks all entries: for metrics.
func (l *Lockout) Locked() (accounts, addresses int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	return l.accounts.locked(now), l.addresses.locked(now)
}

// addressKey is the address for IPv4 and the /64 for IPv6, since a customer
// has at least that many addresses. It is "" for exempt and unknown ones.
func (l *Lockout) addressKey(ip netip.Addr) string {
	if !ip.IsValid() {
		return ""
	}
	ip = ip.Unmap().WithZone("")
	for _, p := range l.exempt {
		if p.Contains(ip) {
			return ""
		}
	}
	if ip.Is6() {
		return netip.PrefixFrom(ip, 64).Masked().String()
	}
	return ip.String()
}
