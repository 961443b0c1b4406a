package policy

import (
	"sync"
	"time"

	"understudy/internal/directory"
)

const (
	// fallbackMemory is how long one fallback makes us take a primary for
	// failing, if nobody says otherwise.
	fallbackMemory = 15 * time.Second
	// judgementFor is how long we go by one word of the worker that a primary
	// fails. It says so again every 10 minutes: else it is gone, or PostgreSQL
	// is, and the primary may be well again. Then the primary is asked.
	judgementFor = 30 * time.Minute
)

// fallbacks remembers which primaries just failed under our eyes. It bridges
// the seconds until the worker's judgement arrives with the directory, and
// stands in for it while PostgreSQL or the worker is down.
type fallbacks struct {
	mu     sync.Mutex
	seen   map[int64]sight // fallbacks, by domain id
	judged map[int64]sight // when we first went by the worker's word, by domain id
	pruned time.Time
}

// sight is when something was seen.
type sight struct {
	at      time.Time
	version int64 // of the domain then: a newer one is a newer judgement
}

// note records a fallback of a domain's mail.
func (f *fallbacks) note(d *directory.Domain, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.seen == nil {
		f.seen = map[int64]sight{}
	}
	if now.Sub(f.pruned) > fallbackMemory {
		for id, x := range f.seen {
			if now.Sub(x.at) > fallbackMemory {
				delete(f.seen, id)
			}
		}
		f.pruned = now
	}
	f.seen[d.ID] = sight{at: now, version: d.Version}
}

// failing says whether a domain's primary is failing: in the worker's
// judgement, or because a fallback was seen since that judgement was made.
func (f *fallbacks) failing(d *directory.Domain, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if d.PrimaryFailing && f.believed(d, now) {
		return true
	}
	x, ok := f.seen[d.ID]
	return ok && x.version == d.Version && now.Sub(x.at) <= fallbackMemory
}

// believed says whether the worker's word that a domain's primary fails is
// young enough. Nobody tells its age: it counts from when we first go by it.
func (f *fallbacks) believed(d *directory.Domain, now time.Time) bool {
	x, ok := f.judged[d.ID]
	if !ok || x.version != d.Version {
		if f.judged == nil {
			f.judged = map[int64]sight{}
		}
		x = sight{at: now, version: d.Version}
		f.judged[d.ID] = x
	}
	return now.Sub(x.at) < judgementFor
}
