package job

import "github.com/riverqueue/river"

// Ship sends sealed segments of the archive to the bucket, and removes local
// ones that it has.
type Ship struct{}

// Kind names the job in River's table.
func (Ship) Kind() string { return "ship" }

// InsertOpts makes it the only one.
func (Ship) InsertOpts() river.InsertOpts {
	return river.InsertOpts{MaxAttempts: 1, UniqueOpts: river.UniqueOpts{ByState: open}}
}
