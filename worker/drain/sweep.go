package drain

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/riverqueue/river"

	"understudy/internal/directory"
	"understudy/internal/job"
)

// keepDone is how long the ledger remembers what was returned. It shields
// against sending a copy again that its owner puts back into INBOX.
const keepDone = 90 * 24 * time.Hour

// Queue is what the sweep needs of the store.
type Queue interface {
	Enqueue(ctx context.Context, args river.JobArgs, opts *river.InsertOpts) error
	PruneLedger(ctx context.Context, before time.Time) (int64, error)
}

// Sweep is the River worker for job.Sweep: it inserts a drain for every
// domain in normal mode that has registered mailboxes. When PostgreSQL is
// down it fails, and the next sweep makes up for it.
type Sweep struct {
	river.WorkerDefaults[job.Sweep]
	directory *directory.Directory
	queue     Queue
	log       *slog.Logger
	pruned    time.Time // River runs one sweep at a time
}

// NewSweep returns a worker.
func NewSweep(d *directory.Directory, q Queue, log *slog.Logger) *Sweep {
	return &Sweep{directory: d, queue: q, log: log}
}

// Work inserts the jobs; a drain that is already waiting is left as it is.
func (s *Sweep) Work(ctx context.Context, _ *river.Job[job.Sweep]) error {
	var errs []error
	for _, d := range s.directory.Domains() {
		if ctx.Err() != nil {
			break
		}
		if d.Mode != directory.Normal || len(s.directory.Mailboxes(d.ID)) == 0 {
			continue
		}
		if err := s.queue.Enqueue(ctx, job.Drain{Domain: d.Name}, nil); err != nil {
			errs = append(errs, err)
		}
	}
	if time.Since(s.pruned) > time.Hour {
		n, err := s.queue.PruneLedger(ctx, time.Now().Add(-keepDone))
		if err == nil {
			s.pruned = time.Now()
			s.log.Debug("drain ledger pruned", "rows", n)
		}
		errs = append(errs, err)
	}
	return errors.Join(append(errs, ctx.Err())...)
}
