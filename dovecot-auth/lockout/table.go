package lockout

import (
	"container/list"
	"time"
)

// entry is what is remembered of one account or address.
type entry struct {
	key      string
	failures int
	last     time.Time // of the last failure that counted
	guess    Guess     // what was tried then
}

// table holds the entries of one kind, the latest failure in front.
type table struct {
	limit   int // failures that lock
	config  *Config
	entries map[string]*list.Element
	order   *list.List
}

func newTable(limit int, c *Config) table {
	return table{limit: limit, config: c, entries: map[string]*list.Element{}, order: list.New()}
}

// delay is how long n failures lock.
func (t *table) delay(n int) time.Duration {
	if n < t.limit {
		return 0
	}
	d := t.config.Delay
	for range n - t.limit {
		if d *= 2; d >= t.config.MaxDelay {
			return t.config.MaxDelay
		}
	}
	return min(d, t.config.MaxDelay)
}

func (t *table) wait(key string, now time.Time) time.Duration {
	e := t.entries[key]
	if e == nil {
		return 0
	}
	x := e.Value.(*entry)
	return x.last.Add(t.delay(x.failures)).Sub(now)
}

// fail counts a failure, and reports whether it locks.
func (t *table) fail(key string, guess Guess, now time.Time) bool {
	if key == "" {
		return false
	}
	e := t.entries[key]
	if e == nil {
		t.add(&entry{key: key, failures: 1, last: now, guess: guess}, now)
		return t.limit <= 1
	}
	x := e.Value.(*entry)
	if now.Sub(x.last) > t.config.Forget {
		x.failures = 0
	} else if guess != (Guess{}) && guess == x.guess {
		return false
	}
	x.failures, x.last, x.guess = x.failures+1, now, guess
	t.order.MoveToFront(e)
	return x.failures >= t.limit
}

// add puts a new entry in front, and drops old ones at the back: those whose
// time has come, and one more if there is no room.
func (t *table) add(x *entry, now time.Time) {
	for e := t.order.Back(); e != nil; e = t.order.Back() {
		old := e.Value.(*entry)
		if now.Sub(old.last) <= t.config.Forget && len(t.entries) < t.config.MaxEntries {
			break
		}
		t.forget(old.key)
	}
	t.entries[x.key] = t.order.PushFront(x)
}

func (t *table) forget(key string) bool {
	e := t.entries[key]
	if e == nil {
		return false
	}
	t.order.Remove(e)
	delete(t.entries, key)
	return true
}

func (t *table) locked(now time.Time) int {
	n := 0
	for key := range t.entries {
		if t.wait(key, now) > 0 {
			n++
		}
	}
	return n
}
