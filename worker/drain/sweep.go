package drain

import (
	"context"
	"log/slog"
	"maps"
	"time"

	"github.com/riverqueue/river"

	"understudy/internal/address"
	"understudy/internal/directory"
	"understudy/internal/evidence"
	"understudy/internal/job"
)

const (
	// keepDone is how long the ledger remembers what was returned. It shields
	// against sending a copy again that its owner puts back into INBOX.
	keepDone   = 90 * 24 * time.Hour
	pruneEvery = time.Hour

	// A message that fell back is in the portal within a second, unless Postfix
	// has to try again: for so long its mailbox is looked at now and then.
	// For a domain that is back to normal, deliveries under way end sooner.
	fallbackFor = time.Hour
	switchFor   = 5 * time.Minute
	// What nobody tells of is found by then: mail that waited longer for the
	// portal, and what an owner puts into INBOX.
	everyone = 6 * time.Hour

	evidencePause = time.Second // while policyd does not answer
)

// Queue is what the sweep needs of the store.
type Queue interface {
	Enqueue(ctx context.Context, args river.JobArgs, opts *river.InsertOpts) error
	OpenDomains(ctx context.Context, gateway string) ([]string, error)
	AdoptLedger(ctx context.Context, gateway string) error
	PruneLedger(ctx context.Context, before time.Time) (int64, error)
}

// Evidence tells what came to this gateway's re-entry listener.
type Evidence interface {
	Poll(ctx context.Context) ([]evidence.Event, error)
	Gap() bool // before what the last Poll returned
}

// Sweep knows which mailboxes of this gateway's portal may hold mail in normal
// mode, and inserts a drain for their domains:
//
//   - all of a domain when it is back to normal, when this process starts,
//     when policyd could not tell of a fallback, and every six hours
//   - one that a message fell back to, from half an interval later, with
//     growing pauses for an hour
//   - those open in the ledger, always
//
// PostgreSQL down: a later sweep inserts the drain. policyd down: re-entry
// takes nothing either.
type Sweep struct {
	worker   *Worker
	queue    Queue
	evidence Evidence
	interval time.Duration
	log      *slog.Logger

	// Owned by Run.
	since   map[string]looked // by name of domain
	adopted bool
	pruned  time.Time
}

// looked is when all mailboxes of a domain were last asked for.
type looked struct {
	mode time.Time // since when the mode lasted that it had then
	at   time.Time
}

// NewSweep makes the sweep of a worker.
func NewSweep(w *Worker, q Queue, e Evidence, interval time.Duration) *Sweep {
	return &Sweep{worker: w, queue: q, evidence: e, interval: interval, log: w.Log, since: map[string]looked{}}
}

// Run sweeps until ctx ends: at every interval, and for domains whose mode has
// changed at once.
func (s *Sweep) Run(ctx context.Context) {
	told, done := make(chan news), make(chan struct{})
	go func() { defer close(done); s.listen(ctx, told) }()
	defer func() { <-done }()
	tick := time.NewTicker(s.interval)
	defer tick.Stop()
	for full := true; ctx.Err() == nil; {
		changed := s.worker.Directory.Changed()
		if s.worker.Directory.Loaded() {
			s.sweep(ctx, full)
			full = false
		}
		full = s.await(ctx, told, tick.C, changed) || full
	}
}

// await takes in what policyd tells until it is time for a sweep; full at an
// interval. In an outage there is news with each message: it is only noted.
func (s *Sweep) await(ctx context.Context, told <-chan news, tick <-chan time.Time, changed <-chan struct{}) (full bool) {
	for {
		select {
		case n := <-told:
			s.take(n)
		case <-tick:
			return true
		case <-changed:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// news is what policyd tells.
type news struct {
	events []evidence.Event
	gap    bool // and could not tell of others
}

// listen passes on what policyd tells.
func (s *Sweep) listen(ctx context.Context, told chan<- news) {
	for ctx.Err() == nil {
		events, err := s.evidence.Poll(ctx)
		if err != nil {
			select {
			case <-time.After(evidencePause):
			case <-ctx.Done():
			}
			continue
		}
		n := news{events: events, gap: s.evidence.Gap()}
		if len(n.events) == 0 && !n.gap {
			continue
		}
		select {
		case told <- n:
		case <-ctx.Done():
		}
	}
}

// take notes what fell back.
func (s *Sweep) take(n news) {
	now := s.worker.now()
	if n.gap {
		s.log.Info("policyd cannot tell all that fell back: all portal mailboxes are looked at")
		clear(s.since)
	}
	for _, e := range n.events {
		if e.Class != evidence.Fallback {
			continue
		}
		// What cannot be read (an event has no more than printable ASCII) may
		// be anybody's in the domain.
		to, err := address.Parse(e.Recipient)
		m := s.worker.Directory.Recipient(to).Mailbox
		if err != nil || m == nil {
			delete(s.since, e.Domain)
			continue
		}
		first := s.interval / 2
		s.worker.looks.add(e.Domain, []string{m.Address}, look{at: now.Add(first), pause: first, until: now.Add(fallbackFor)})
	}
}

// sweep inserts the drains that are due. Without full it does so only for
// domains that are newly in normal mode.
func (s *Sweep) sweep(ctx context.Context, full bool) {
	now := s.worker.now()
	if !s.adopted {
		err := s.queue.AdoptLedger(ctx, s.worker.Gateway)
		if s.failed(ctx, err); err != nil {
			return // nothing is looked at that this may know to be sent
		}
		s.adopted = true
	}
	all := s.worker.Directory.Domains()
	names, fresh := make(map[string]bool, len(all)), map[*directory.Domain]look{}
	for _, d := range all {
		names[d.Name] = true
		if n, ok := s.wholeDomain(d, now); ok {
			fresh[d] = n
		}
	}
	s.worker.lookAtAll(fresh)
	for _, d := range all {
		if _, ok := fresh[d]; (ok || full && d.Mode == directory.Normal) && s.worker.looks.isDue(d.Name, now) {
			s.enqueue(ctx, d.Name)
		}
	}
	maps.DeleteFunc(s.since, func(name string, _ looked) bool { return !names[name] })
	s.worker.looks.keep(names)
	if full {
		s.ledger(ctx, now)
	}
}

// wholeDomain tells whether it is time to ask for all mailboxes of a domain,
// and how.
func (s *Sweep) wholeDomain(d *directory.Domain, now time.Time) (n look, ok bool) {
	if d.Mode != directory.Normal {
		return n, false
	}
	before, known := s.since[d.Name]
	n.at = now
	switch {
	case !known || !before.mode.Equal(d.ModeSince):
		n.pause, n.until = s.interval, now.Add(switchFor)
	case now.Sub(before.at) < everyone:
		return n, false
	}
	s.since[d.Name] = looked{mode: d.ModeSince, at: now}
	return n, true
}

func (s *Sweep) enqueue(ctx context.Context, domain string) {
	if err := s.queue.Enqueue(ctx, job.Drain{Domain: domain, Gateway: s.worker.Gateway}, nil); err != nil && ctx.Err() == nil {
		s.log.Warn("drain cannot be asked for now", "domain", domain, "error", err)
	}
}

// ledger drains what is open in the ledger, and prunes it.
func (s *Sweep) ledger(ctx context.Context, now time.Time) {
	open, err := s.queue.OpenDomains(ctx, s.worker.Gateway)
	s.failed(ctx, err)
	for _, name := range open {
		if d, ok := s.worker.Directory.Domain(name); ok && d.Mode == directory.Normal {
			s.enqueue(ctx, name)
		}
	}
	if now.Sub(s.pruned) > pruneEvery {
		_, err := s.queue.PruneLedger(ctx, now.Add(-keepDone))
		s.failed(ctx, err)
		if err == nil {
			s.pruned = now
		}
	}
}

func (s *Sweep) failed(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		s.log.Warn("drain ledger cannot be read now", "error", err)
	}
}
