// Package drain returns mail to the primary: what is still in the portal
// INBOXes of a domain in normal mode is sent there and removed. Each gateway's
// worker does so for its own portal, and has the ledger's rows to itself.
//
// The portal is asked only about mailboxes that may hold mail (Sweep); what has
// not been dealt with is asked for again.
//
// The ledger in PostgreSQL is the only memory (store.LedgerState draws its
// states); the message itself stays in its INBOX until the primary's 250 is
// recorded. Order within a message: ledger "sending", SMTP, ledger "sent",
// expunge, ledger "done". A crash between the primary's 250 and "sent" cannot
// be told from one before it, so that message is sent again: at most one
// duplicate for each message under way at a crash, counted as uncertain. So is
// each attempt whose last reply was lost; from the second on, pauses double.
//
// What its owner moved to another folder, deleted, or flagged \Deleted is
// never sent. All that remains in INBOX is, also what the owner put there:
// that has no envelope, and goes to the owner from the null sender.
//
// A primary that cannot be reached or does not want to talk to us ends the
// run, which is repeated with growing pauses of up to a minute; one that
// refuses a message for good makes it held. 4xx for one recipient or message
// leaves the others alone. PostgreSQL or Dovecot down: nothing is sent, and
// the run is repeated. The domain in emergency again: the run ends before the
// next message.
package drain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/riverqueue/river"

	"understudy/internal/delivery"
	"understudy/internal/directory"
	"understudy/internal/job"
	"understudy/internal/portal"
	"understudy/internal/store"
)

// Ledger is what the drain needs of the store.
type Ledger interface {
	Mode(ctx context.Context, domain string) (store.ModeState, error)
	LockDrain(ctx context.Context, gateway, domain string) (release func(), ok bool, err error)
	OpenMailboxes(ctx context.Context, gateway, domain string) ([]string, error)
	LedgerOf(ctx context.Context, gateway, mailbox string) (map[string]store.LedgerEntry, error)
	Settle(ctx context.Context, gateway, mailbox string, present []string) error
	Begin(ctx context.Context, k store.LedgerKey, domain string, size int64) (store.LedgerEntry, error)
	Failed(ctx context.Context, k store.LedgerKey, reply string) error
	Hold(ctx context.Context, k store.LedgerKey, reply string) error
	MarkSent(ctx context.Context, k store.LedgerKey, reply string) error
	MarkDone(ctx context.Context, gateway, mailbox string, guids ...string) error
}

// Portal is what the drain needs of the portal mailboxes.
type Portal interface {
	Counts(ctx context.Context, mailboxes []string) (map[string]int, error)
	List(ctx context.Context, mailbox string) (portal.Listing, error)
	Open(ctx context.Context, mailbox string, uidValidity uint32) (*portal.Session, error)
}

// Deliverer sends a message.
type Deliverer interface {
	Deliver(ctx context.Context, hosts []string, m delivery.Message) []delivery.Result
}

// Config is what a Worker works with; every field but Metrics is needed.
type Config struct {
	Gateway     string // name of this machine: of whose portal Portal is the client
	Directory   *directory.Directory
	Ledger      Ledger
	Portal      Portal
	Delivery    Deliverer
	Concurrency int           // mailboxes of a domain at once
	Timeout     time.Duration // for one message, from its fetch to the primary's last reply
	Log         *slog.Logger
	Metrics     prometheus.Registerer
}

// Worker is the River worker for job.Drain.
type Worker struct {
	river.WorkerDefaults[job.Drain]
	Config
	metrics *metrics
	looks   looks
	now     func() time.Time // by which looks are due
}

// New returns a worker.
func New(c Config) *Worker { return &Worker{Config: c, metrics: newMetrics(c.Metrics), now: time.Now} }

const (
	maxRun     = time.Minute // then the job makes room for others, and goes on later
	firstPause = 2 * time.Second
	maxPause   = time.Minute
	catchUp    = 5 * time.Second // for the directory to know what the database knows
)

// Timeout bounds a run; River may take a job for lost only after it.
func (w *Worker) Timeout(*river.Job[job.Drain]) time.Duration {
	return maxRun + w.Config.Timeout + time.Minute
}

// NextRetry spaces the attempts after an error (of PostgreSQL, mostly).
func (w *Worker) NextRetry(j *river.Job[job.Drain]) time.Time {
	return time.Now().Add(pause(j.Attempt))
}

// Work runs a drain of one domain. Trouble with the primary or the portal is
// no error of the job: it sleeps and is run again, without end.
func (w *Worker) Work(ctx context.Context, j *river.Job[job.Drain]) error {
	s, err := w.Run(ctx, j.Args.Domain)
	if err != nil {
		return err
	}
	w.metrics.runs.WithLabelValues(string(s.Outcome)).Inc()
	switch s.Outcome {
	case Complete, NotNormal:
		return nil
	case Unfinished:
		return river.JobSnooze(0)
	default:
		return river.JobSnooze(pause(snoozes(j) + 1))
	}
}

// snoozes is how often River has put the job off before.
func snoozes(j *river.Job[job.Drain]) int {
	var m struct {
		Snoozes int `json:"snoozes"`
	}
	if err := json.Unmarshal(j.Metadata, &m); err != nil {
		return 0
	}
	return m.Snoozes
}

// pause is how long to wait after the nth trouble in a row: 2 s, 4 s, 8 s ...
func pause(n int) time.Duration { return min(maxPause, firstPause<<min(max(n-1, 0), 10)) }

// Outcome is how a run ended.
type Outcome string

// The outcomes.
const (
	Complete   Outcome = "complete"   // nothing is left that could be returned now
	NotNormal  Outcome = "not-normal" // the domain is in emergency, or gone
	Unfinished Outcome = "unfinished" // its time was over, or the program stops
	Trouble    Outcome = "trouble"    // with the primary or the portal: try again later
	Locked     Outcome = "locked"     // another process of this name drains this domain
)

// Summary is the result of a run.
type Summary struct {
	Outcome  Outcome
	Returned int // sent to the primary and removed
	Held     int // in INBOX, refused by the primary
	Deleted  int // in INBOX, flagged \Deleted by the owner: left alone
	Left     int // in INBOX, for another run
}

// Run makes one pass over the INBOXes of a domain that are to be looked at.
func (w *Worker) Run(ctx context.Context, domain string) (Summary, error) {
	mode, err := w.Ledger.Mode(ctx, domain)
	if errors.Is(err, store.ErrNotFound) || err == nil && mode.Mode != directory.Normal {
		return Summary{Outcome: NotNormal}, nil
	}
	if err != nil {
		return Summary{}, err
	}
	if !w.caughtUp(ctx, mode.Version) {
		return Summary{Outcome: Trouble}, nil
	}
	release, ok, err := w.Ledger.LockDrain(ctx, w.Gateway, domain)
	if err != nil {
		return Summary{}, err
	}
	if !ok {
		return Summary{Outcome: Locked}, nil
	}
	defer release()
	r := newRun(w, domain)
	err = r.all(ctx)
	s := r.summary()
	if err != nil {
		return s, fmt.Errorf("drain %s: %w", domain, err)
	}
	if s != (Summary{Outcome: Complete}) { // not every sweep that finds nothing
		w.Log.Info("drain", "domain", domain, "outcome", s.Outcome, "returned", s.Returned, "held", s.Held, "deleted", s.Deleted, "left", s.Left)
	}
	return s, nil
}

// caughtUp waits until the directory is as new as version.
func (w *Worker) caughtUp(ctx context.Context, version int64) bool {
	ctx, cancel := context.WithTimeout(ctx, catchUp)
	defer cancel()
	for {
		changed := w.Directory.Changed()
		if w.Directory.Loaded() && w.Directory.Version() >= version {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}
