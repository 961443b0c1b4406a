package outcome

import (
	"sync"
	"time"
)

const (
	lookFor  = 15 * time.Minute // how long refusals without a reason are softened: the detector decides meanwhile
	restFor  = 30 * time.Minute // from one look at a host to the next
	maxHosts = 4096
)

// Doubts decides about refusals that name no reason: "554 Transaction failed"
// may be about one message or be a full disk that refuses everybody. A key
// does not name its message, so time has to tell: when a host begins to
// refuse, all such refusals are softened for a quarter of an hour, and what
// is refused then again comes to its sender.
type Doubts struct {
	mu    sync.Mutex
	hosts map[string]time.Time // when it began
}

// Soften reports whether a refusal of a host at now is to be softened.
func (d *Doubts) Soften(host string, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	began, ok := d.hosts[host]
	if !ok || now.Sub(began) >= restFor {
		d.prune(now)
		if len(d.hosts) >= maxHosts {
			return false
		}
		began = now
		d.hosts[host] = began
	}
	return now.Sub(began) < lookFor
}

func (d *Doubts) prune(now time.Time) {
	if d.hosts == nil {
		d.hosts = map[string]time.Time{}
	}
	if len(d.hosts) < maxHosts {
		return
	}
	for h, began := range d.hosts {
		if now.Sub(began) >= restFor {
			delete(d.hosts, h)
		}
	}
}
