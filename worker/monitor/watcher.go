package monitor

import (
	"context"
	"encoding/json"
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

	mu         sync.Mutex
	results    map[detect.Class]int // of deliveries since the last round
	said       string               // to the newest
	recipients recent               // of those that failed
	last       seen

	hosts []string // names of the primaries; the term's lock protects it

	// Owned by run.
	state     detect.State
	saved     savedHealth
	marked    time.Time // when the directory was last told that the primary fails
	trouble   bool      // the last write to PostgreSQL went wrong
	held      bool      // a switch waits for a second look
	primaries []string
	hostsAt   time.Time // when their names were learnt
	sample    recent    // registered recipients
	sampledAt time.Time
}

// end ends the watch. The term's lock is held.
func (w *watcher) end() {
	w.cancel()
	w.forgetHosts()
}

// newest is what the newest probe found.
func (w *watcher) newest() seen {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

// rouse asks for a probe at once.
func (w *watcher) rouse() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// notice counts what a delivery met. When that says something of the whole
// server it asks for a probe at once.
func (w *watcher) notice(e evidence.Event) {
	class := detect.Class(e.Class)
	if e.Class == evidence.FallbackRefused {
		class = detect.Fallback
	}
	address, ours := w.registered(e.Recipient)
	w.mu.Lock()
	w.results[class]++
	if e.Said != "" && class.Down() {
		w.said = e.Said
	}
	if ours {
		w.recipients.add(address)
	}
	w.mu.Unlock()
	if class == detect.Fallback || class.Down() {
		w.rouse()
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
		w.learnHosts(ctx, d)
		hosts := w.probe(ctx, d)
		if ctx.Err() != nil {
			return // cut short: says nothing
		}
		w.step(ctx, hosts)
		wait = w.next(d)
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
				var facts detect.Facts
				json.Unmarshal(c.Evidence, &facts) //nolint:errcheck // an older form tells nothing
				past[i] = detect.Change{At: c.At, To: c.To, Manual: c.Manual, Observed: c.Observed, Facts: facts}
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
	if d.DetectFailures != nil {
		set.Failures = *d.DetectFailures
	}
	if d.DetectStorm != nil {
		set.Storm = *d.DetectStorm
	}
	if d.RecoverSeconds != nil {
		set.RecoverAfter = time.Duration(*d.RecoverSeconds) * time.Second
		set.RecoverMax = max(set.RecoverMax, set.RecoverAfter)
	}
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
func (w *watcher) next(d *directory.Domain) time.Duration {
	young := w.state.Failures > 0 && w.state.Failures <= 2*w.settings(d).Failures
	fresh := w.state.Fallbacks > 0 && time.Since(w.state.FallbackAt) < oldEvidence
	if young || fresh || w.trouble || w.held {
		return w.FastInterval
	}
	interval := w.Interval
	if d.ProbeSeconds != nil {
		interval = time.Duration(*d.ProbeSeconds) * time.Second
	}
	return time.Duration(float64(interval) * (0.9 + 0.2*rand.Float64())) // so that domains do not march in step
}

// probe asks all primaries at once.
func (w *watcher) probe(ctx context.Context, d *directory.Domain) []detect.Host {
	hosts, recipients := make([]detect.Host, len(d.Primaries)), w.wanted(d)
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
			hosts[i] = w.Prober.Probe(ctx, address, recipients...)
			if ctx.Err() == nil {
				w.Metrics.probes.WithLabelValues(string(hosts[i].Class)).Inc()
				w.Metrics.probeTime.Observe(time.Since(begin).Seconds())
			}
		})
	}
	wg.Wait()
	return hosts
}
