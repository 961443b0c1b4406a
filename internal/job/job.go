// Package job names the background jobs that worker carries out (River) and
// that worker and admin insert.
package job

import (
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
)

// open are the states in which a job still has its work before it, or has it
// in hand. A new one is dropped while there is one like it in these states,
// even if that is running and already past what the new one is for: who wants
// to be sure asks again.
var open = []rivertype.JobState{rivertype.JobStateAvailable, rivertype.JobStatePending,
	rivertype.JobStateRetryable, rivertype.JobStateRunning, rivertype.JobStateScheduled}

// Drain sends what is in the INBOXes of a domain in one gateway's portal to
// its primary. There is at most one of each at a time: one that is asked for
// while another ends is made up for by the gateway's next sweep.
type Drain struct {
	Domain  string `json:"domain" river:"unique"`
	Gateway string `json:"gateway,omitempty" river:"unique"` // whose portal; its worker does it
}

// Kind names the job in River's table.
func (Drain) Kind() string { return "drain" }

// InsertOpts makes the job unique by domain and gateway.
func (d Drain) InsertOpts() river.InsertOpts {
	return river.InsertOpts{MaxAttempts: 20, Queue: GatewayQueue(d.Gateway), UniqueOpts: river.UniqueOpts{ByArgs: true, ByState: open}}
}

// Partitions makes the index partitions of the days to come.
type Partitions struct{}

// Kind names the job in River's table.
func (Partitions) Kind() string { return "partitions" }

// InsertOpts makes it the only one.
func (Partitions) InsertOpts() river.InsertOpts {
	return river.InsertOpts{MaxAttempts: 5, UniqueOpts: river.UniqueOpts{ByState: open}}
}
