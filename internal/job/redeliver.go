package job

import "github.com/riverqueue/river"

// Redeliver delivers the messages of one redelivery again.
type Redeliver struct {
	ID int64 `json:"id" river:"unique"` // the row of redelivery
}

// Kind names the job in River's table.
func (Redeliver) Kind() string { return "redeliver" }

// InsertOpts makes the job unique by redelivery.
func (Redeliver) InsertOpts() river.InsertOpts {
	return river.InsertOpts{MaxAttempts: 20, UniqueOpts: river.UniqueOpts{ByArgs: true, ByState: open}}
}
