package account

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"understudy/dovecot-auth/lockout"
	"understudy/internal/directory"
	"understudy/internal/password"
)

// Login verifies a password. Any of the mailbox's passwords will do: its main
// one and its app passwords.
func (a *Accounts) Login(ctx context.Context, t Attempt) Answer {
	start := time.Now()
	answer := a.login(ctx, t)
	result := answer.Result.String()
	a.metrics.Logins.WithLabelValues(serviceLabel(t.Service), result).Inc()
	a.metrics.Seconds.WithLabelValues(result).Observe(time.Since(start).Seconds())
	a.log.Debug("login", "protocol", t.Service, "client", t.IP, "mailbox", answer.Account.User, "result", result)
	return answer
}

func (a *Accounts) login(ctx context.Context, t Attempt) Answer {
	if !a.directory.Loaded() {
		return Answer{Result: Temporary, Reason: notLoaded}
	}
	who := a.subject(t)
	key := a.keys.of(who.name, t.Password)
	edition := editionOf(who.creds)
	remembered := func() (Answer, bool) {
		if answer, locked := a.locked(who.name, t); locked {
			return answer, true
		}
		ok, found := a.cache.get(key, edition)
		if !found {
			return Answer{}, false
		}
		a.metrics.Hits.Inc()
		return a.conclude(who, t, lockout.Guess(key[:]), ok), true
	}
	if answer, done := remembered(); done {
		return answer
	}
	var answer Answer
	err := a.verifier.Do(ctx, func(ctx context.Context) error {
		// Others were verified while this one waited. Look again: a burst of
		// guesses gets no more tries than the same guesses one by one, and
		// the connections that a mail program opens at once cost only one.
		var done bool
		if answer, done = remembered(); done {
			return nil
		}
		ok, err := a.verify(ctx, who.creds, t.Password)
		if err != nil {
			return err
		}
		a.cache.put(key, edition, ok)
		answer = a.conclude(who, t, lockout.Guess(key[:]), ok)
		return nil
	})
	if err != nil {
		return a.trouble(who.name, err)
	}
	return answer
}

// subject is who wants to log in.
type subject struct {
	name    string                  // normalised; "" if it is no name at all
	account *Account                // nil: unknown
	creds   []*directory.Credential // that count, the cheap ones first
}

// subject finds a mailbox, or at submission an outbound account. These have
// no '@' in their names, so that neither can pass for the other, and no home.
func (a *Accounts) subject(t Attempt) subject {
	if x := a.directory.OutboundAccount(t.User); x != nil && t.Sending {
		who := subject{name: x.Name, account: &Account{User: x.Name}}
		if x.Enabled && x.Hash != "" {
			who.creds = []*directory.Credential{{ID: x.ID, Kind: "password", Hash: x.Hash, Version: x.Version}}
		}
		return who
	}
	name, m := a.find(t.User)
	who := subject{name: name, creds: a.usable(m)}
	if m != nil {
		found := a.account(m)
		who.account = &found
	}
	return who
}

// usable returns the credentials that count, the cheap ones (app passwords)
// first; none for a mailbox that is not there or may not log in.
func (a *Accounts) usable(m *directory.Mailbox) []*directory.Credential {
	if m == nil || !m.Enabled {
		return nil
	}
	creds := a.directory.Credentials(m.ID)
	slices.SortStableFunc(creds, func(x, y *directory.Credential) int { return strings.Compare(x.Kind, y.Kind) }) // "app" < "password"
	return creds
}

// verify tries the credentials. Where there is no main password it takes as
// long as if there were: the time does not tell which names exist. An unusable hash makes the answer unknown, unless another one matches.
func (a *Accounts) verify(ctx context.Context, creds []*directory.Credential, secret string) (bool, error) {
	var unusable error
	for _, c := range creds {
		if ctx.Err() != nil {
			return false, fmt.Errorf("%w: %w", password.ErrBusy, ctx.Err())
		}
		ok, err := password.Verify(c.Hash, secret)
		if ok {
			return true, nil
		}
		if err != nil {
			unusable = fmt.Errorf("credential %d: %w", c.ID, err)
		}
	}
	if !slices.ContainsFunc(creds, func(c *directory.Credential) bool { return c.Kind == "password" }) {
		password.Waste(secret)
	}
	return false, unusable
}

// conclude counts the outcome and makes the answer.
func (a *Accounts) conclude(who subject, t Attempt, guess lockout.Guess, ok bool) Answer {
	if ok {
		a.lockout.Succeeded(who.name)
		return Answer{Result: OK, Account: *who.account}
	}
	lockedAccount, lockedAddress := a.lockout.Failed(who.name, t.IP, guess)
	if lockedAccount {
		a.metrics.Lockouts.WithLabelValues("account").Inc()
		a.log.Warn("account locked after wrong passwords", "mailbox", who.name, "client", t.IP, "protocol", t.Service)
	}
	if lockedAddress {
		a.metrics.Lockouts.WithLabelValues("address").Inc()
		a.log.Warn("client address locked after wrong passwords", "client", t.IP, "protocol", t.Service)
	}
	if who.account == nil {
		return Answer{Result: Unknown}
	}
	return Answer{Result: Bad}
}

func (a *Accounts) locked(name string, t Attempt) (Answer, bool) {
	wait := a.lockout.Wait(name, t.IP)
	if wait <= 0 {
		return Answer{}, false
	}
	return Answer{Result: Locked, Reason: "Too many wrong passwords. Try again in " + inWords(wait) + "."}, true
}

func (a *Accounts) trouble(name string, err error) Answer {
	switch {
	case errors.Is(err, password.ErrBusy):
		a.metrics.Busy.Inc()
	case errors.Is(err, password.ErrBadHash):
		a.metrics.BadHash.Inc()
		a.log.Error("password hash cannot be used; its mailbox cannot log in", "mailbox", name, "error", err)
	}
	return Answer{Result: Temporary, Reason: err.Error()}
}

// inWords rounds up: who comes back then is let in.
func inWords(d time.Duration) string {
	if d <= time.Minute {
		return fmt.Sprintf("%d seconds", max(2, (d+time.Second-1)/time.Second))
	}
	return fmt.Sprintf("%d minutes", (d+time.Minute-1)/time.Minute)
}
