package monitor

import (
	"context"
	"net"
	"strings"
	"sync"
	"time"

	"understudy/internal/store"
	"understudy/worker/detect"
)

const (
	witnessTimeout = 3 * time.Second
	lookEvery      = 250 * time.Millisecond // at most, while something is unusual
	lookAtMost     = 200                    // sets of primaries at one look
	probeTakes     = 30 * time.Second       // at most, of a silent server
)

// lookout sees over all domains whether this worker can see at all.
type lookout struct {
	mu   sync.Mutex // held during a look; the witnesses are asked meanwhile
	now  detect.Vantage
	at   time.Time // of the newest look
	save time.Time // of the newest write
	owed bool      // a change could not be written yet
}

// Dial returns a function that asks the witnesses "host:port" for a TCP
// connection: one that gets it is enough. It is nil without witnesses.
func Dial(witnesses []string) func(ctx context.Context) detect.Witness {
	if len(witnesses) == 0 {
		return nil
	}
	return func(ctx context.Context) detect.Witness {
		ctx, cancel := context.WithTimeout(ctx, witnessTimeout)
		defer cancel()
		answers := make(chan bool, len(witnesses))
		for _, w := range witnesses {
			go func() {
				conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", w)
				if err == nil {
					conn.Close()
				}
				answers <- err == nil
			}()
		}
		for range witnesses {
			if <-answers {
				return detect.Reachable
			}
		}
		return detect.NoneAnswers
	}
}

// seen is what the lookout knows of one domain's newest probe.
type seen struct {
	at      time.Time
	failed  bool
	primary string // its set of primaries
}

// allows reports whether a domain may be switched now, whose probes fail
// since a moment. The first that wants to makes others look too: its own
// failure alone does not tell whose network is down.
func (t *term) allows(ctx context.Context, since time.Time) (bool, string) {
	l := &t.lookout
	if !l.mu.TryLock() {
		return false, "" // somebody is looking
	}
	defer l.mu.Unlock()
	if l.now.Allows() || time.Since(l.at) >= lookEvery {
		o, enough := t.look(since)
		if !enough {
			return false, ""
		}
		t.judge(ctx, o)
	}
	return l.now.Allows(), strings.TrimSuffix(l.now.Text(), ".")
}

// look counts what was seen of the sets of primaries after a moment. When
// that is too little to tell, it wakes some watchers and reports false.
func (t *term) look(since time.Time) (o detect.Outlook, enough bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	failed, all := map[string]bool{}, map[string]bool{}
	var stale []*watcher
	for _, w := range t.watchers {
		s := w.newest()
		all[s.primary] = true
		if s.at.Before(since) {
			stale = append(stale, w)
			continue
		}
		if failed[s.primary] = s.failed; len(failed) >= lookAtMost {
			break
		}
	}
	for _, f := range failed {
		if f {
			o.Failing++
		}
	}
	o.Watched = len(failed)
	need := min(2*t.Vantage.MinDomains, len(all))
	if o.Watched >= need {
		return o, true
	}
	for _, w := range stale[:min(len(stale), need)] {
		w.rouse()
	}
	return o, false
}

// judge takes one look. The lock is held.
func (t *term) judge(ctx context.Context, o detect.Outlook) {
	l, now := &t.lookout, time.Now()
	if t.Witness != nil && l.now.WantsWitness(o, t.Vantage, now) {
		o.Witness = t.Witness(ctx)
		if ctx.Err() != nil {
			return
		}
	}
	before := l.now.View
	l.now, l.at = l.now.Next(o, t.Vantage, now), now
	t.Metrics.vantage.Set(map[detect.View]float64{detect.SecondLook: 1, detect.Confirmed: 2, detect.OwnNetwork: 3, detect.Settling: 4}[l.now.View])
	changed := l.now.View != before
	if changed && (before != "" || l.now.View != detect.Clear) {
		t.Log.Warn("view of all primaries changed", "view", l.now.View, "failing", o.Failing, "of", o.Watched, "text", l.now.Text())
	}
	if l.owed = l.owed || changed; !l.owed && now.Sub(l.save) < saveEvery {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	v := store.Vantage{View: string(l.now.View), Detail: l.now.Text(), Since: l.now.Since, CheckedAt: now}
	if err := t.Store.SaveVantage(ctx, v); err != nil {
		t.Metrics.errors.Inc()
		return
	}
	l.save, l.owed = now, false
}

// watchVantage goes on looking while something is unusual: nobody may ask
// any more.
func (t *term) watchVantage(ctx context.Context) {
	tick := time.NewTicker(t.FastInterval)
	defer tick.Stop()
	for first := true; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		l := &t.lookout
		l.mu.Lock()
		if first || (l.owed || l.now.View != detect.Clear) && time.Since(l.at) >= lookEvery {
			o, enough := t.look(time.Now().Add(-2*t.Interval - probeTakes))
			if enough || !first { // else a new leader would end what an older one saw
				t.judge(ctx, o)
				first = false
			}
		}
		l.mu.Unlock()
	}
}
