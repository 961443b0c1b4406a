package monitor

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"understudy/internal/directory"
	"understudy/internal/store"
	"understudy/worker/detect"
)

// actor is who the timeline names.
const actor = "detector"

// saveEvery is how old the health on the website may be while nothing changes.
const saveEvery = 20 * time.Second

// confirmEvery is how often the directory is told that a primary still fails:
// policyd believes it for three times as long (policy.judgementFor).
const confirmEvery = 10 * time.Minute

// acceptedBefore is how long a message may take from its acceptance to its
// first failure.
const acceptedBefore = 30 * time.Second

// savedHealth is what was last written of a domain's hosts.
type savedHealth struct {
	hosts []detect.Host
	at    time.Time
}

// step takes in one round of probes and what came from policyd meanwhile, and
// carries out what follows.
func (w *watcher) step(ctx context.Context, hosts []detect.Host) {
	e := detect.Evidence{Hosts: hosts}
	w.mu.Lock()
	e.Deliveries, e.Said = w.results, w.said
	w.results, w.said = map[detect.Class]int{}, ""
	w.mu.Unlock()
	d, ok := w.Directory.Domain(w.name)
	if !ok {
		return
	}
	set, now := w.settings(d), time.Now()
	before := w.state.Mode
	if w.state = w.state.Follow(d, set); w.state.Mode != before {
		w.Metrics.switches.WithLabelValues(string(w.state.Mode), "person").Inc()
	}
	w.note(d, hosts, now)
	if since, ok := w.state.StormSince(set, now); ok {
		e.Waiting = w.waiting(ctx)
		e.Accepted, e.Strangers = w.accepted(ctx, since, e.Waiting)
	}
	var actions []detect.Action
	w.state, actions = detect.Next(w.state, e, set, now)
	w.trouble, w.held = false, false
	for _, a := range actions {
		w.act(ctx, a, set)
	}
	w.mark(ctx, d, now)
	w.saveHealth(ctx, hosts, now)
}

// mark tells the mail services, through the directory, whether the primary
// fails, and says it again while it does. (In an emergency policyd asks only
// for who is not covered.)
func (w *watcher) mark(ctx context.Context, d *directory.Domain, now time.Time) {
	var ok bool
	matters := d.Mode == directory.Normal || d.Scope == directory.ScopeSelected
	switch {
	case w.state.Failing != d.PrimaryFailing:
		ok = w.write(ctx, "mark primary", func(ctx context.Context) error {
			return w.Store.SetPrimaryFailing(ctx, w.name, w.state.Failing)
		})
	case w.state.Failing && matters && now.Sub(w.marked) >= confirmEvery:
		ok = w.write(ctx, "mark primary again", func(ctx context.Context) error {
			return w.Store.ConfirmPrimaryFailing(ctx, w.name)
		})
	}
	if ok {
		w.marked = now
	}
}

// note keeps what the lookout asks for.
func (w *watcher) note(d *directory.Domain, hosts []detect.Host, now time.Time) {
	up := slices.ContainsFunc(hosts, func(h detect.Host) bool { return !h.Class.Down() })
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = seen{at: now, failed: !up, primary: strings.Join(d.Primaries, ",")}
}

// waiting asks the queue, when something was refused. Postfix may be down: then
// nothing is known.
func (w *watcher) waiting(ctx context.Context) int {
	if w.Queue == nil || w.state.Storm.Refused == 0 {
		return 0
	}
	n, err := w.Queue.Waiting(ctx, w.name)
	if err != nil && ctx.Err() == nil {
		w.Log.Warn("monitor cannot count what waits", "domain", w.name, "error", err)
	}
	return n
}

// accepted counts the mail that a storm is to be measured by: of all domains
// on the same hosts when these refused it, since results name only a host,
// unless the queue says it better. A domain without mail of its own learns
// nothing from its neighbours, and mail that goes to the portal says nothing
// of a host. Strangers is that of detect.Evidence.
func (w *watcher) accepted(ctx context.Context, since time.Time, waiting int) (n int, strangers bool) {
	since = since.Add(-acceptedBefore)
	count := func(domains ...string) bool {
		return w.write(ctx, "count accepted messages", func(ctx context.Context) (err error) {
			n, err = w.Store.AcceptedSince(ctx, domains, since)
			return err
		})
	}
	if !count(w.name) || n == 0 || w.state.Storm.Refused == 0 {
		return n, false
	}
	near, strangers := w.neighbours()
	if strangers || w.state.Storm.Refused <= waiting || slices.Equal(near, []string{w.name}) {
		return n, strangers
	}
	if !count(near...) {
		return 0, false
	}
	return n, false
}

// act carries out one action. Only then the state takes it over; else the
// detector asks for it again with the next round.
func (w *watcher) act(ctx context.Context, a detect.Action, set detect.Settings) {
	if a.To == directory.Emergency && w.state.Failures >= set.Failures {
		allowed, why := w.allows(ctx, w.state.FirstAt)
		if !allowed {
			w.held = true
			w.Metrics.held.Inc()
			return
		}
		if why != "" {
			a.Reason += "; " + why
		}
	}
	sw := store.Switch{Domain: w.name, To: a.To, Actor: actor, Reason: a.Reason, Evidence: a.Facts}
	if a.Observe {
		from := w.state.WouldBe
		if w.write(ctx, "record observed switch", func(ctx context.Context) error { return w.Store.ObserveMode(ctx, sw, from) }) {
			w.state = w.state.Observed(a.To, time.Now(), set)
			w.Metrics.switches.WithLabelValues(string(a.To), "observe").Inc()
			w.Log.Info("would switch mode", "domain", w.name, "mode", a.To, "reason", a.Reason)
		}
		return
	}
	var change *store.ModeChange
	ok := w.write(ctx, "switch mode", func(ctx context.Context) (err error) {
		change, err = w.Store.SwitchMode(ctx, sw)
		return err
	})
	if !ok || change == nil { // nil: it is so already, and the directory is about to say so
		return
	}
	w.state = w.state.Switched(a.To, false, change.At, set)
	w.state.Version = change.Version
	w.Metrics.switches.WithLabelValues(string(a.To), actor).Inc()
	w.Log.Info("mode switched", "domain", w.name, "mode", a.To, "reason", a.Reason)
}

// saveHealth writes what the website shows, when there is something new or it
// has become old.
func (w *watcher) saveHealth(ctx context.Context, hosts []detect.Host, now time.Time) {
	if slices.Equal(hosts, w.saved.hosts) && now.Sub(w.saved.at) < saveEvery {
		return
	}
	rows := make([]store.HostHealth, len(hosts))
	for i, h := range hosts {
		rows[i] = store.HostHealth{Host: h.Host, Class: string(h.Class), Detail: h.Detail, Since: now, CheckedAt: now}
	}
	if w.write(ctx, "save health", func(ctx context.Context) error { return w.Store.SaveHealth(ctx, w.name, rows) }) {
		w.saved = savedHealth{hosts, now}
	}
}

// write does one thing to PostgreSQL and reports whether it went well.
func (w *watcher) write(ctx context.Context, what string, f func(ctx context.Context) error) bool {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	err := f(ctx)
	if err != nil {
		w.failed(what, err)
	}
	return err == nil
}

// failed notes that PostgreSQL did not do what was wanted.
func (w *watcher) failed(what string, err error) {
	if errors.Is(err, store.ErrConflict) { // a person has just decided otherwise
		w.Log.Info("left to a person", "domain", w.name, "doing", what, "error", err)
		return
	}
	if errors.Is(err, context.Canceled) {
		return
	}
	w.trouble = true
	w.Metrics.errors.Inc()
	w.Log.Warn("monitor could not write; trying again", "domain", w.name, "doing", what, "error", err)
}
