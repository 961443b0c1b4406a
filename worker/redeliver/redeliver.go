// Package redeliver delivers archived messages again: to the server that is
// active for each mailbox at that moment (internal/route), the primary over
// SMTP, or the portal through Postfix's re-entry listener, which does not
// archive them once more.
//
// What is to be delivered stands in PostgreSQL, one item for each message and
// mailbox, so that none comes twice (store.RedeliveryItem draws its states). A
// crash between the server's 250 and its record cannot be told from one before
// it: those under way at a crash are sent again, and counted as uncertain.
//
// Messages arrive as they were received, from the null sender, so that nothing
// ever bounces to a stranger, with two fields on top (X-Understudy-Redelivered
// and X-Understudy-Id), and without the fields that Postfix drops at delivery
// too, Bcc above all. Only a person starts a redelivery: nothing can loop.
//
// 4xx, and a server that cannot be reached: tried again with growing pauses
// for two days. 5xx: failed, with the reply. PostgreSQL down: the run is
// repeated. A message that the archive does not have any more: failed. One
// whose segment is on another gateway, and not shipped yet, is left to that
// gateway's worker; when that is down it waits for one of both.
package redeliver

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/riverqueue/river"

	"understudy/internal/archive"
	"understudy/internal/delivery"
	"understudy/internal/directory"
	"understudy/internal/job"
	"understudy/internal/store"
)

// Store is what redelivery needs of PostgreSQL.
type Store interface {
	Redelivery(ctx context.Context, id int64) (*store.Redelivery, error)
	LockRedelivery(ctx context.Context, id int64) (release func(), ok bool, err error)
	CollectRedelivery(ctx context.Context, r *store.Redelivery) error
	DueItems(ctx context.Context, id int64, gateway string, limit int) ([]store.RedeliveryItem, error)
	NextItem(ctx context.Context, id int64) (at time.Time, ok bool, err error)
	BeginItem(ctx context.Context, i store.RedeliveryItem) (bool, error)
	ItemSent(ctx context.Context, i store.RedeliveryItem, reply string) error
	ItemFailed(ctx context.Context, i store.RedeliveryItem, reply string) error
	ItemRetry(ctx context.Context, i store.RedeliveryItem, reply string, next time.Time) error
	ItemElsewhere(ctx context.Context, i store.RedeliveryItem, gateway string, pause time.Duration) error
	SegmentGateway(ctx context.Context, segment string) (string, error)
	FinishRedelivery(ctx context.Context, id int64) (bool, error)
	Message(ctx context.Context, access store.Access, id uuid.UUID) (*store.MessageRow, error)
}

// Deliverer sends a message.
type Deliverer interface {
	Deliver(ctx context.Context, hosts []string, m delivery.Message) []delivery.Result
}

// Config is what a Worker works with; every field but Metrics is needed.
type Config struct {
	Directory *directory.Directory
	Store     Store
	Gateway   string                                                              // name of this machine
	Open      func(ctx context.Context, ref archive.Ref) (*archive.Record, error) // of the archive
	Delivery  Deliverer
	Reentry   string        // host:port of Postfix's re-entry listener
	Timeout   time.Duration // for one message
	Log       *slog.Logger
	Metrics   prometheus.Registerer
}

// Worker is the River worker for job.Redeliver.
type Worker struct {
	river.WorkerDefaults[job.Redeliver]
	Config
	metrics *metrics
}

// New returns a worker.
func New(c Config) *Worker { return &Worker{Config: c, metrics: newMetrics(c.Metrics)} }

const (
	maxRun      = time.Minute // then the job makes room for others, and goes on later
	atOnce      = 4           // messages of a redelivery
	batch       = 200
	collectTime = 5 * time.Minute
	longestNap  = 20 * time.Second
	crowdedNap  = 2 * time.Second // while another worker is at it
	elsewhere   = time.Minute     // between looks for a segment that only another gateway has
	firstPause  = 5 * time.Second // of an item, doubling
	longPause   = 15 * time.Minute
	giveUpAfter = 48 * time.Hour
)

// Timeout bounds a run; River may take a job for lost only after it.
func (w *Worker) Timeout(*river.Job[job.Redeliver]) time.Duration {
	return collectTime + maxRun + w.Config.Timeout + time.Minute
}

// NextRetry spaces the attempts after an error (of PostgreSQL, mostly).
func (w *Worker) NextRetry(j *river.Job[job.Redeliver]) time.Time {
	return time.Now().Add(min(time.Minute, time.Second<<min(j.Attempt, 6)))
}

// Work goes on with a redelivery until it is done, or sleeps until something
// is to be tried again.
func (w *Worker) Work(ctx context.Context, j *river.Job[job.Redeliver]) error {
	nap, err := w.Run(ctx, j.Args.ID)
	if err != nil {
		return err
	}
	if nap < 0 {
		return nil
	}
	return river.JobSnooze(nap)
}

// Run makes one pass over a redelivery. It returns how long to wait for the
// next; a negative time says that the redelivery is done.
func (w *Worker) Run(ctx context.Context, id int64) (time.Duration, error) {
	release, ok, err := w.Store.LockRedelivery(ctx, id)
	if err != nil || !ok { // another process is at it
		return crowdedNap, err
	}
	defer release()
	r, err := w.Store.Redelivery(ctx, id)
	if err != nil || r.State == store.RedeliveryDone {
		return -1, err
	}
	if r.State == store.RedeliveryCollecting {
		if err := w.collect(ctx, r); err != nil {
			return 0, err
		}
	}
	p := &pass{Worker: w, redelivery: r, until: time.Now().Add(maxRun), suspended: map[string]time.Time{}}
	if err := p.all(ctx); err != nil {
		return 0, err
	}
	next, waiting, err := w.Store.NextItem(ctx, id)
	if err != nil {
		return 0, err
	}
	if waiting {
		return min(longestNap, max(0, time.Until(next))), nil
	}
	if finished, err := w.Store.FinishRedelivery(ctx, id); err != nil || !finished {
		return 0, err
	}
	w.Log.Info("redelivery done", "redelivery", id, "login", r.Actor)
	return -1, nil
}

func (w *Worker) collect(ctx context.Context, r *store.Redelivery) error {
	ctx, cancel := context.WithTimeout(ctx, collectTime)
	defer cancel()
	return w.Store.CollectRedelivery(ctx, r)
}

// pause is how long an item waits after its nth attempt: 5 s, 10 s, 20 s ...
func pause(n int) time.Duration { return min(longPause, firstPause<<min(max(n-1, 0), 10)) }

// accessOf is whose mail a redelivery may touch; kept in its row.
func accessOf(r *store.Redelivery) (a store.Access, err error) {
	err = json.Unmarshal(r.Access, &a)
	return a, err
}
