package reroute

import (
	"context"
	"sync"
	"time"

	"understudy/internal/directory"
)

// lookBack is for how long after a change a worker that starts makes up for
// it: Postfix has retried by itself what is older (maximal_backoff_time, of
// 67 minutes).
const lookBack = 2 * time.Hour

// watch is what a Rerouter knows of the domains.
type watch struct {
	*Rerouter
	started bool
	since   map[string]time.Time          // of each domain's present mode
	cancel  map[string]context.CancelFunc // of those that are or were followed
	group   sync.WaitGroup
}

// Run re-routes after every change of mode until ctx ends.
func (w *Rerouter) Run(ctx context.Context) {
	d := &watch{Rerouter: w, since: map[string]time.Time{}, cancel: map[string]context.CancelFunc{}}
	defer d.group.Wait()
	for ctx.Err() == nil {
		changed := w.Directory.Changed()
		if version := w.Directory.Version(); w.Directory.Loaded() {
			d.look(ctx, version, w.Directory.Domains())
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// look compares the domains with those of the last time.
func (d *watch) look(ctx context.Context, version int64, domains []*directory.Domain) {
	here := make(map[string]bool, len(domains))
	for _, dom := range domains {
		here[dom.Name] = true
		before, known := d.since[dom.Name]
		if known && before.Equal(dom.ModeSince) {
			continue
		}
		d.since[dom.Name] = dom.ModeSince
		if known || dom.Mode == directory.Emergency && d.started || !d.started && time.Since(dom.ModeSince) < lookBack {
			d.start(ctx, change{domain: dom.Name, mode: dom.Mode, since: dom.ModeSince, version: version, missed: !d.started})
		}
	}
	for name := range d.since {
		if !here[name] {
			d.stop(name)
			delete(d.since, name)
		}
	}
	d.started = true
}

// start follows a change, and an older one of the domain no more.
func (d *watch) start(ctx context.Context, c change) {
	d.stop(c.domain)
	ctx, d.cancel[c.domain] = context.WithCancel(ctx)
	d.group.Go(func() { d.follow(ctx, c) })
}

func (d *watch) stop(domain string) {
	if cancel, ok := d.cancel[domain]; ok {
		cancel()
		delete(d.cancel, domain)
	}
}
