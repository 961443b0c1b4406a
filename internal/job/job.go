// Package job names the background jobs that worker carries out (River) and
// that worker and admin insert.
package job

import (
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
)

// open are the states in which a job still has its work before it. A running
// job is not among them: it may already be past what a new one is for.
var open = []rivertype.JobState{rivertype.JobStateAvailable, rivertype.JobStatePending,
	rivertype.JobStateRetryable, rivertype.JobStateRunning, rivertype.JobStateScheduled}

// Drain sends what is in the portal INBOXes of a domain to its primary.
// There is at most one for a domain at a time.
type Drain struct {
	Domain string `json:"domain" river:"unique"`
}

// Kind names the job in River's table.
func (Drain) Kind() string { return "drain" }

// InsertOpts makes the job unique by domain.
func (Drain) InsertOpts() river.InsertOpts {
	return river.InsertOpts{MaxAttempts: 20, UniqueOpts: river.UniqueOpts{ByArgs: true, ByState: open}}
}

// Sweep inserts a Drain for each domain in normal mode: single messages fall
// back to the portal in normal mode too.
type Sweep struct{}

// Kind names the job in River's table.
func (Sweep) Kind() string { return "sweep" }

// InsertOpts makes it the only one.
func (Sweep) InsertOpts() river.InsertOpts {
	return river.InsertOpts{MaxAttempts: 1, UniqueOpts: river.UniqueOpts{ByState: open}}
}

// Partitions makes the index partitions of the days to come.
type Partitions struct{}

// Kind names the job in River's table.
func (Partitions) Kind() string { return "partitions" }

// InsertOpts makes it the only one.
func (Partitions) InsertOpts() river.InsertOpts {
	return river.InsertOpts{MaxAttempts: 5, UniqueOpts: river.UniqueOpts{ByState: open}}
}
