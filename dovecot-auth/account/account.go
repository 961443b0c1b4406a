// Package account answers who may log in, and where a mailbox lives, from
// the directory in memory.
//
// It never waits for PostgreSQL. While the directory is not loaded, or more
// passwords wait for verification than can be dealt with in time, the answer
// is Temporary: a client or a sender then tries again. "Unknown" and "wrong
// password" are said only when they are known to be true.
package account

import (
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"understudy/dovecot-auth/lockout"
	"understudy/internal/address"
	"understudy/internal/directory"
	"understudy/internal/password"
)

// Result is the kind of an answer.
type Result int

// The answers.
const (
	OK        Result = iota
	Unknown          // no such mailbox
	Bad              // wrong password, or the mailbox may not log in
	Locked           // too many wrong passwords before; see Answer.Reason
	Temporary        // we do not know now; see Answer.Reason
)

// String is the result's name in metrics and logs.
func (r Result) String() string {
	return [...]string{"ok", "unknown", "bad", "locked", "temporary"}[r]
}

// Answer is what Login and Lookup found.
type Answer struct {
	Result  Result
	Account Account // when OK
	Reason  string  // when Locked, for the user; when Temporary, for the log
}

// Account is where a mailbox lives.
type Account struct {
	User       string // canonical address, whatever alias or spelling was asked for; or an outbound account, which has nothing else
	UID, GID   int
	Home       string // absolute directory
	QuotaBytes int64
}

// Place says where mailboxes live.
type Place struct {
	Directory    string // homes are Directory/domain/local
	UID, GID     int
	DefaultQuota int64 // bytes, of a mailbox without a quota of its own
}

// Accounts answers logins and lookups. Its methods may be called at once from
// many goroutines.
type Accounts struct {
	directory *directory.Directory
	verifier  *password.Verifier
	lockout   *lockout.Lockout
	place     Place
	log       *slog.Logger
	metrics   *Metrics
	cache     *cache
	keys      fingerprinter
}

// New makes an Accounts. now is the clock of the cache.
func New(d *directory.Directory, v *password.Verifier, l *lockout.Lockout, p Place, m *Metrics, log *slog.Logger,
	now func() time.Time) *Accounts {
	return &Accounts{directory: d, verifier: v, lockout: l, place: p, metrics: m, log: log,
		cache: newCache(now), keys: newFingerprinter()}
}

const notLoaded = "the directory is not loaded yet"

// Lookup finds the mailbox of an address or alias, for delivery and for the
// master user. A mailbox that may not log in still gets its mail.
func (a *Accounts) Lookup(user string) Answer {
	answer := a.lookup(user)
	a.metrics.Lookups.WithLabelValues(answer.Result.String()).Inc()
	return answer
}

func (a *Accounts) lookup(user string) Answer {
	if !a.directory.Loaded() {
		return Answer{Result: Temporary, Reason: notLoaded}
	}
	_, m := a.find(user)
	if m == nil {
		return Answer{Result: Unknown}
	}
	return Answer{Result: OK, Account: a.account(m)}
}

// List calls yield with the canonical address of each mailbox, or says why it
// cannot.
func (a *Accounts) List(yield func(user string) error) error {
	if !a.directory.Loaded() {
		return fmt.Errorf("list mailboxes: %s", notLoaded)
	}
	var domains []int64
	for _, d := range a.directory.Domains() {
		domains = append(domains, d.ID)
	}
	for _, m := range a.directory.Mailboxes(domains...) {
		if err := yield(m.Address); err != nil {
			return err
		}
	}
	return nil
}

// find returns the normalised name ("" if it is no address) and the mailbox,
// nil if there is none. Only call it with a loaded directory.
func (a *Accounts) find(user string) (string, *directory.Mailbox) {
	parsed, err := address.Parse(user)
	if err != nil {
		parsed, err = address.ParseUnquoted(user)
	}
	if err != nil || parsed.IsZero() {
		return "", nil
	}
	if m := a.directory.Recipient(parsed).Mailbox; m != nil {
		return m.Address, m
	}
	return parsed.String(), nil
}

func (a *Accounts) account(m *directory.Mailbox) Account {
	quota := m.QuotaBytes
	if quota == 0 {
		quota = a.place.DefaultQuota
	}
	return Account{User: m.Address, UID: a.place.UID, GID: a.place.GID, Home: home(a.place.Directory, m.Address), QuotaBytes: quota}
}

// Attempt is one try to log in.
type Attempt struct {
	Service  string     // "imap", "pop3", "submission", ... as the server calls it
	IP       netip.Addr // of the client; the zero Addr if unknown
	User     string
	Password string
	Sending  bool // at Postfix's submission, where outbound accounts may sign in too
}
