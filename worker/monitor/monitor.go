// Package monitor watches the primaries of all domains: it probes them, takes
// what policyd saw of real deliveries, has package detect decide, and carries
// that out (mode switches, the directory's "primary fails", health for the
// website).
//
// It runs on the leading worker only. When PostgreSQL is down nothing can be
// switched; the lead is lost with it, and a new term begins from what the
// directory and the timeline say. When policyd is down, probes alone decide.
package monitor

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"understudy/internal/directory"
	"understudy/internal/evidence"
	"understudy/internal/store"
	"understudy/worker/detect"
)

const (
	maxProbes    = 256 // at once, of all domains; a silent server keeps one for 20 s
	storeTimeout = 5 * time.Second
	retryPoll    = time.Second
	oldEvidence  = 30 * time.Second // events that old say nothing about now
)

// Store is what the monitor needs of PostgreSQL.
type Store interface {
	SwitchMode(ctx context.Context, sw store.Switch) (*store.ModeChange, error)
	ObserveMode(ctx context.Context, sw store.Switch, from directory.Mode) error
	Timeline(ctx context.Context, domain string, limit int) ([]store.ModeChange, error)
	SaveHealth(ctx context.Context, domain string, hosts []store.HostHealth) error
	SetPrimaryFailing(ctx context.Context, domain string, failing bool) error
	ConfirmPrimaryFailing(ctx context.Context, domain string) error
	AcceptedSince(ctx context.Context, domains []string, since time.Time) (int, error)
	SaveVantage(ctx context.Context, v store.Vantage) error
}

// Prober asks one primary.
type Prober interface {
	Probe(ctx context.Context, primary string, recipients ...string) detect.Host
}

// Waiting is the mail that waits because a refusal was softened.
type Waiting interface {
	Waiting(ctx context.Context, domain string) (int, error)
}

// Witness asks hosts that have nothing to do with any customer.
type Witness func(ctx context.Context) detect.Witness

// Evidence is what policyd saw; Poll waits for news.
type Evidence interface {
	Poll(ctx context.Context) ([]evidence.Event, error)
}

// Monitor watches every domain of the directory.
type Monitor struct {
	Directory    *directory.Directory
	Store        Store
	Prober       Prober
	Evidence     Evidence        // may be nil
	Detector     detect.Settings // what a domain has not set itself; Activation is always its own
	Vantage      detect.VantageSettings
	Witness      Witness       // may be nil
	Queue        Waiting       // may be nil
	Interval     time.Duration // between probes while all is well
	FastInterval time.Duration // and while something is not
	Log          *slog.Logger
	Metrics      *Metrics
}

// term is one term of the lead.
type term struct {
	*Monitor
	slots chan struct{} // one for a running probe

	mu       sync.Mutex
	watchers map[string]*watcher          // by domain name
	byHost   map[string]map[*watcher]bool // by host of a primary

	lookout lookout
}

// Run watches until ctx ends.
func (m *Monitor) Run(ctx context.Context) {
	t := &term{Monitor: m, slots: make(chan struct{}, maxProbes), watchers: map[string]*watcher{}, byHost: map[string]map[*watcher]bool{}}
	var wg sync.WaitGroup
	defer wg.Wait()
	if m.Evidence != nil {
		wg.Go(func() { t.listen(ctx) })
	}
	wg.Go(func() { t.watchVantage(ctx) })
	for ctx.Err() == nil {
		changed := m.Directory.Changed()
		t.reconcile(ctx, &wg)
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
}

// reconcile starts watchers of new domains and ends those of gone ones.
func (t *term) reconcile(ctx context.Context, wg *sync.WaitGroup) {
	t.mu.Lock()
	defer t.mu.Unlock()
	present := map[string]int64{}
	for _, d := range t.Directory.Domains() {
		present[d.Name] = d.ID
		w := t.watchers[d.Name]
		if w != nil && w.id == d.ID {
			continue
		}
		if w != nil { // removed and made again
			w.end()
		}
		wctx, cancel := context.WithCancel(ctx)
		w = &watcher{term: t, id: d.ID, name: d.Name, cancel: cancel, wake: make(chan struct{}, 1), results: map[detect.Class]int{}}
		t.watchers[d.Name] = w
		wg.Go(func() { w.run(wctx) })
	}
	for name, w := range t.watchers {
		if _, ok := present[name]; !ok {
			w.end()
			delete(t.watchers, name)
		}
	}
	t.Metrics.domains.Set(float64(len(t.watchers)))
}

// listen hands policyd's events to the watchers.
func (t *term) listen(ctx context.Context) {
	down := false
	for ctx.Err() == nil {
		events, err := t.Evidence.Poll(ctx)
		if err != nil {
			if ctx.Err() == nil && !down {
				t.Log.Warn("no evidence from policyd; probes alone decide", "error", err)
			}
			down = true
			select {
			case <-ctx.Done():
			case <-time.After(retryPoll):
			}
			continue
		}
		if down {
			t.Log.Info("evidence from policyd again")
			down = false
		}
		for _, e := range events {
			if time.Since(e.At) < oldEvidence {
				t.notice(e)
			}
		}
	}
}

func (t *term) notice(e evidence.Event) {
	t.Metrics.events.WithLabelValues(string(e.Class)).Inc()
	t.mu.Lock()
	defer t.mu.Unlock()
	if w := t.watchers[e.Domain]; w != nil {
		w.notice(e)
	}
	for w := range t.byHost[e.Host] {
		w.notice(e)
	}
}
