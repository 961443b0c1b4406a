package policy

import (
	"sync"
	"time"

	"understudy/internal/directory"
)

// fallbackMemory is how long one fallback makes us take a primary for
// failing, if nobody says otherwise.
const fallbackMemory = 15 * time.Second

// fallbacks remembers which primaries just failed under our eyes. It bridges
// the seconds until the worker's judgement arrives with the directory, and
// stands in for it while PostgreSQL or the worker is down.
type fallbacks struct {
	mu     sync.Mutex
	seen   map[int64]fallback // by domain id
	pruned time.Time
}

type fallback struct {
	at      time.Time
	version int64 // of the domain then: a newer one is a newer judgement
}

// note records a fallback of a domain's mail.
func (f *fallbacks) note(d *directory.Domain, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.seen == nil {
		f.seen = map[int64]fallback{}
	}
	if now.Sub(f.pruned) > fallbackMemory {
		for id, x := range f.seen {
			if now.Sub(x.at) > fallbackMemory {
				delete(f.seen, id)
			}
		}
		f.pruned = now
	}
	f.seen[d.ID] = fallback{at: now, version: d.Version}
}

// failing says whether a domain's primary is failing: in the worker's
// judgement, or because a fallback was seen since that judgement was made.
func (f *fallbacks) failing(d *directory.Domain, now time.Time) bool {
	if d.PrimaryFailing {
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	x, ok := f.seen[d.ID]
	return ok && x.version == d.Version && now.Sub(x.at) <= fallbackMemory
}
