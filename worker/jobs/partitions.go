package jobs

import (
	"context"
	"time"

	"github.com/riverqueue/river"

	"understudy/internal/job"
)

// daysAhead is for how many days partitions are made in advance.
const daysAhead = 7

// PartitionStore makes partitions of the index.
type PartitionStore interface {
	EnsurePartitions(ctx context.Context, days ...time.Time) error
}

// Partitions makes the index partitions of today and the days to come. (The
// indexer makes one that is missing nevertheless.)
type Partitions struct {
	river.WorkerDefaults[job.Partitions]
	Store PartitionStore
}

// Work makes the partitions.
func (p *Partitions) Work(ctx context.Context, _ *river.Job[job.Partitions]) error {
	today := time.Now().UTC()
	var days []time.Time
	for i := range daysAhead + 1 {
		days = append(days, today.AddDate(0, 0, i))
	}
	return p.Store.EnsurePartitions(ctx, days...)
}
