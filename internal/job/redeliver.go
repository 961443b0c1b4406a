package job

import (
	"crypto/sha256"
	"fmt"

	"github.com/riverqueue/river"
)

// Redeliver delivers the messages of one redelivery again.
type Redeliver struct {
	ID      int64  `json:"id" river:"unique"`                // the row of redelivery
	Gateway string `json:"gateway,omitempty" river:"unique"` // which must do it, as it has segments of it; "" is any
}

// Kind names the job in River's table.
func (Redeliver) Kind() string { return "redeliver" }

// InsertOpts makes the job unique by redelivery and gateway.
func (r Redeliver) InsertOpts() river.InsertOpts {
	o := river.InsertOpts{MaxAttempts: 20, UniqueOpts: river.UniqueOpts{ByArgs: true, ByState: open}}
	if r.Gateway != "" {
		o.Queue = GatewayQueue(r.Gateway)
	}
	return o
}

// GatewayQueue is River's queue of the jobs for one gateway's worker alone.
// (River takes fewer characters than a name may have.)
func GatewayQueue(gateway string) string {
	return fmt.Sprintf("gateway-%x", sha256.Sum256([]byte(gateway)))[:40]
}
