package monitor

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"understudy/internal/directory"
	"understudy/internal/evidence"
	"understudy/worker/detect"
)

// watcher watches one domain.
type watcher struct {
	*term
	id     int64
	name   string
	cancel context.CancelFunc
	wake   chan struct{} // takes one: probe at once

	mu        sync.Mutex
	fallbacks int  // since the last round
	portal    bool // one of them put a message into the portal

	// Owned by run.
	state   detect.State
	drainAt time.Time // of the newest drain asked for
	saved   savedHealth
	trouble bool // the last write to PostgreSQL went wrong
}

// notice counts a delivery that fell back and asks for a probe at once.
func (w *watcher) notice(e evidence.Event) {
	w.mu.Lock()
	w.fallbacks++
	w.portal = w.portal || e.Class == evidence.Fallback
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run probes and acts until ctx ends.
func (w *watcher) run(ctx context.Context) {
	if !w.resume(ctx) {
		return
	}
	// The first probes of many domains are spread over a fast interval.
	for wait := rand.N(w.FastInterval + 1); ; {
		if !w.pause(ctx, wait) {
			return
		}
		d, ok := w.Directory.Domain(w.name)
		if !ok || d.ID != w.id {
			return // reconcile is about to end us
		}
		hosts := w.probe(ctx, d)
		if ctx.Err() != nil {
			return // cut short: says nothing
		}
		w.step(ctx, hosts)
		wait = w.next()
	}
}

// resume reads the timeline; it reports false when ctx has ended.
func (w *watcher) resume(ctx context.Context) bool {
	for {
		d, ok := w.Directory.Domain(w.name)
		if !ok {
			return false
		}
		read, cancel := context.WithTimeout(ctx, storeTimeout)
		line, err := w.Store.Timeline(read, w.name, 50)
		cancel()
		if err == nil {
			past := make([]detect.Change, len(line))
			for i, c := range line {
				past[i] = detect.Change{At: c.At, To: c.To, Manual: c.Manual, Observed: c.Observed}
			}
			w.state = detect.Resume(d, past, w.settings(d))
			return true
		}
		w.failed("read timeline", err)
		if !w.sleep(ctx, w.FastInterval) {
			return false
		}
	}
}

func (w *watcher) settings(d *directory.Domain) detect.Settings {
	set := w.Detector
	set.Activation = d.Activation
	return set
}

// pause waits, shorter when evidence comes: but never probes more often than
// every fast interval.
func (w *watcher) pause(ctx context.Context, wait time.Duration) bool {
	if wait <= w.FastInterval {
		return w.sleep(ctx, wait)
	}
	if !w.sleep(ctx, w.FastInterval) {
		return false
	}
	timer := time.NewTimer(wait - w.FastInterval)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-w.wake:
	case <-timer.C:
	}
	return true
}

func (w *watcher) sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// next is how long to wait: little while a failure is young or evidence
// fresh, or while PostgreSQL owes us a write.
func (w *watcher) next() time.Duration {
	young := w.state.Failures > 0 && w.state.Failures <= 2*w.Detector.Failures
	fresh := w.state.Fallbacks > 0 && time.Since(w.state.FallbackAt) < oldEvidence
	if young || fresh || w.trouble {
		return w.FastInterval
	}
	return time.Duration(float64(w.Interval) * (0.9 + 0.2*rand.Float64())) // so that domains do not march in step
}

// probe asks all primaries at once.
func (w *watcher) probe(ctx context.Context, d *directory.Domain) []detect.Host {
	hosts := make([]detect.Host, len(d.Primaries))
	var wg sync.WaitGroup
	for i, address := range d.Primaries {
		wg.Go(func() {
			select {
			case w.slots <- struct{}{}:
			case <-ctx.Done():
				return
			}
			defer func() { <-w.slots }()
			begin := time.Now()
			hosts[i] = w.Prober.Probe(ctx, address)
			if ctx.Err() == nil {
				w.Metrics.probes.WithLabelValues(string(hosts[i].Class)).Inc()
				w.Metrics.probeTime.Observe(time.Since(begin).Seconds())
			}
		})
	}
	wg.Wait()
	return hosts
}
