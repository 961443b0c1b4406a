package web

import (
	"container/list"
	"sync"
	"time"
)

// throttle slows the guessing of passwords down: an attempt takes a token
// from each of three buckets, and a right password gives them back.
type throttle struct {
	now func() time.Time

	mu      sync.Mutex
	buckets map[string]*list.Element
	recent  *list.List // of *bucket, the longest unused last
}

// maxBuckets bounds the memory; the longest unused go first.
const maxBuckets = 30_000

// limit is a bucket's size and how fast it fills.
type limit struct {
	burst float64
	every time.Duration // one token
}

// The limits: of a login from one address; of one address, behind which may
// be an office; and of a login from anywhere, wide enough that a stranger
// cannot easily keep its owner out.
var (
	pairLimit    = limit{burst: 6, every: 15 * time.Second}
	addressLimit = limit{burst: 30, every: 4 * time.Second}
	loginLimit   = limit{burst: 60, every: 5 * time.Second}
)

type bucket struct {
	key    string
	limit  limit
	tokens float64
	at     time.Time
}

func newThrottle(now func() time.Time) *throttle {
	return &throttle{now: now, buckets: map[string]*list.Element{}, recent: list.New()}
}

// take lets an attempt through, or says how long to wait.
func (t *throttle) take(login, address string) (wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := t.three(login, address)
	for _, b := range all {
		if b.tokens < 1 {
			wait = max(wait, time.Duration((1-b.tokens)*float64(b.limit.every)).Round(time.Second)+time.Second)
		}
	}
	if wait > 0 {
		return wait
	}
	for _, b := range all {
		b.tokens--
	}
	return 0
}

// giveBack is for an attempt that was right.
func (t *throttle) giveBack(login, address string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, b := range t.three(login, address) {
		if b.tokens = min(b.tokens+1, b.limit.burst); i == 0 {
			b.tokens = b.limit.burst
		}
	}
}

func (t *throttle) three(login, address string) [3]*bucket {
	return [3]*bucket{t.bucket("p "+address+" "+login, pairLimit), t.bucket("a "+address, addressLimit), t.bucket("l "+login, loginLimit)}
}

// bucket finds or makes a bucket, filled up to now.
func (t *throttle) bucket(key string, l limit) *bucket {
	now := t.now()
	if e := t.buckets[key]; e != nil {
		t.recent.MoveToFront(e)
		b := e.Value.(*bucket)
		if passed := now.Sub(b.at); passed > 0 {
			b.tokens = min(b.limit.burst, b.tokens+float64(passed)/float64(l.every))
		}
		b.at = now
		return b
	}
	for t.recent.Len() >= maxBuckets {
		oldest := t.recent.Remove(t.recent.Back()).(*bucket)
		delete(t.buckets, oldest.key)
	}
	b := &bucket{key: key, limit: l, tokens: l.burst, at: now}
	t.buckets[key] = t.recent.PushFront(b)
	return b
}
