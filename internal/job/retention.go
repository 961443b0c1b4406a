package job

import "github.com/riverqueue/river"

// Retention removes what is past its domains' retention from the archive.
type Retention struct{}

// Kind names the job in River's table.
func (Retention) Kind() string { return "retention" }

// InsertOpts makes it the only one.
func (Retention) InsertOpts() river.InsertOpts {
	return river.InsertOpts{MaxAttempts: 3, UniqueOpts: river.UniqueOpts{ByState: open}}
}
