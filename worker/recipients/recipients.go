// Package recipients finds out which addresses the primaries have: it reads
// from the archive's index who got mail without being registered, and asks the
// primaries, by RCPT TO in a session that sends no message, about those, about
// registered addresses and about one that cannot exist (RFC 5321 section
// 4.1.1.3). docs/recipients.md says what becomes of the answers.
//
// A primary is asked in normal mode and while it works, slowly. When
// PostgreSQL is down, or a primary does not answer, all is tried again later;
// nothing on the mail path waits for this.
package recipients

import (
	"context"
	"crypto/rand"
	"log/slog"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"understudy/internal/address"
	"understudy/internal/directory"
	"understudy/internal/store"
	"understudy/worker/probe"
)

const (
	scanMessages = 100_000          // in one pass
	dueDomains   = 200              // in one pass
	atOnce       = 4                // primaries asked at once
	passTime     = 10 * time.Minute // of one pass
	troubleWait  = 10 * time.Minute // before a primary that did not answer is asked again
)

// Asker asks a primary; *probe.Prober is one.
type Asker interface {
	Ask(ctx context.Context, primaries []string, recipients ...string) ([]probe.Reply, error)
}

// Recipients asks primaries. Its fields are set before Run.
type Recipients struct {
	Directory  *directory.Directory
	Store      *store.Store
	Asker      Asker
	Interval   time.Duration // between passes
	CheckEvery time.Duration // age at which an answer is asked for again
	MarkAfter  time.Duration // how long an address is refused until it is marked
	PerMinute  int           // addresses asked of one domain
	Log        *slog.Logger
	Metrics    *Metrics
}

// Run works until ctx ends.
func (w *Recipients) Run(ctx context.Context) {
	tick := time.NewTicker(w.Interval)
	defer tick.Stop()
	for {
		if err := w.Pass(ctx); err != nil && ctx.Err() == nil {
			w.Metrics.Errors.Inc()
			w.Log.Warn("recipients are not looked after; trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Pass notes who got mail, and asks the primaries whose time has come.
func (w *Recipients) Pass(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, passTime)
	defer cancel()
	if !w.Directory.Loaded() {
		return nil
	}
	if err := w.scan(ctx); err != nil {
		return err
	}
	due, err := w.Store.DueRecipientDomains(ctx, dueDomains)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for _, d := range due {
		g.Go(func() error { return w.domain(ctx, d) })
	}
	return g.Wait()
}

// scan notes the recipients of new inbound messages that nobody registered.
// The gateway took the messages, so the primary took their recipients, or
// takes everybody: it is asked before anything is made of it.
func (w *Recipients) scan(ctx context.Context) error {
	seen, read, err := w.Store.ScanRecipients(ctx, scanMessages)
	if err != nil {
		return err
	}
	last := map[string]time.Time{}
	for _, x := range seen {
		a, err := address.Parse(x.Address)
		if err != nil || a.IsZero() {
			continue
		}
		if r := w.Directory.Recipient(a); r.Domain != nil && !r.Registered {
			if key := a.String(); x.Received.After(last[key]) {
				last[key] = x.Received
			}
		}
	}
	if len(last) > 0 {
		fresh := make([]store.SeenRecipient, 0, len(last))
		for a, at := range last {
			fresh = append(fresh, store.SeenRecipient{Address: a, Received: at})
		}
		if err := w.Store.NoteSeen(ctx, fresh); err != nil {
			return err
		}
	}
	return w.Store.ScannedTo(ctx, read)
}

// healthy finds a domain that may be asked now, nil if not.
func (w *Recipients) healthy(name string) *directory.Domain {
	dom, ok := w.Directory.Domain(name)
	if !ok || dom.Mode != directory.Normal || dom.PrimaryFailing {
		return nil
	}
	return dom
}

// domain asks one primary as much as it may be asked now.
func (w *Recipients) domain(ctx context.Context, d store.DueDomain) error {
	catchAll, sure, err := w.catchAll(ctx, d)
	if err != nil {
		return err
	}
	next := troubleWait
	switch {
	case sure && catchAll:
		next = w.CheckEvery
	case sure:
		if next, err = w.addresses(ctx, d); err != nil {
			return err
		}
	}
	return w.Store.AskNext(ctx, d.ID, time.Now().Add(next))
}

// catchAll asks for an address that cannot exist, unless the answer is known.
func (w *Recipients) catchAll(ctx context.Context, d store.DueDomain) (catchAll, sure bool, err error) {
	if d.CatchAll != nil && d.CatchAllAt != nil && time.Since(*d.CatchAllAt) < w.CheckEvery {
		return *d.CatchAll, true, nil
	}
	nobody := "understudy-check-" + strings.ToLower(rand.Text()) + "@" + d.Name
	replies := w.ask(ctx, d.Name, nobody)
	if len(replies) == 0 || !replies[0].Exists() && !replies[0].Unknown() {
		return false, false, nil
	}
	catchAll = replies[0].Exists()
	if d.CatchAll == nil || *d.CatchAll != catchAll {
		w.Log.Info("learned of a primary", "domain", d.Name, "catch_all", catchAll)
	}
	return catchAll, true, w.Store.SetCatchAll(ctx, d.ID, catchAll, time.Now())
}

// addresses asks for those that are due and returns when to go on.
func (w *Recipients) addresses(ctx context.Context, d store.DueDomain) (time.Duration, error) {
	due, err := w.Store.DueAddresses(ctx, d.ID, time.Now().Add(-w.CheckEvery), w.PerMinute)
	if err != nil {
		return 0, err
	}
	next := w.CheckEvery
	if len(due) == w.PerMinute {
		next = time.Minute
	}
	var askable []string
	for _, a := range due {
		if !strings.ContainsFunc(a, func(r rune) bool { return r < ' ' || r > '~' }) {
			askable = append(askable, a)
		} else if err := w.note(ctx, d.ID, store.RecipientAnswer{Address: a, Reply: "not asked: the address needs SMTPUTF8"}); err != nil {
			return 0, err
		}
	}
	for len(askable) > 0 {
		n := min(len(askable), probe.MaxAsk)
		replies := w.ask(ctx, d.Name, askable[:n]...)
		for _, r := range replies {
			if err := w.note(ctx, d.ID, store.RecipientAnswer{Address: r.Address, Exists: r.Exists(), Unknown: r.Unknown(), Reply: r.Text}); err != nil {
				return 0, err
			}
		}
		if len(replies) < n {
			next = troubleWait
			break
		}
		askable = askable[n:]
	}
	if d.Learn != store.LearnAdd {
		return next, nil
	}
	added, err := w.Store.AcceptOffers(ctx, d.Name)
	for _, a := range added {
		w.Log.Info("mailbox added, as the domain is set to", "mailbox", a)
	}
	return next, err
}

// ask returns what the primary says, nothing if it may not be asked or does
// not answer.
func (w *Recipients) ask(ctx context.Context, domain string, recipients ...string) []probe.Reply {
	dom := w.healthy(domain)
	if dom == nil {
		return nil
	}
	replies, err := w.Asker.Ask(ctx, dom.Primaries, recipients...)
	if err != nil {
		w.Metrics.Asked.WithLabelValues("trouble").Inc()
		w.Log.Debug("primary not asked", "domain", domain, "error", err)
	}
	for _, r := range replies {
		w.Metrics.Asked.WithLabelValues(kind(&r)).Inc()
	}
	return replies
}

func (w *Recipients) note(ctx context.Context, domainID int64, a store.RecipientAnswer) error {
	now := time.Now()
	return w.Store.NoteAnswer(ctx, domainID, a, now, now.Add(-w.MarkAfter))
}

func kind(r *probe.Reply) string {
	switch {
	case r.Exists():
		return "exists"
	case r.Unknown():
		return "unknown"
	}
	return "no-verdict"
}
