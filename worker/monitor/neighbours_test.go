package monitor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"understudy/internal/directory"
	"understudy/internal/evidence"
	"understudy/internal/wait"
	"understudy/worker/detect"
)

// refuse plays a neighbour whose single messages the host refuses, until ctx
// ends. The event names only the host.
func (r *rig) refuse(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for ctx.Err() == nil {
		r.ring.Add(evidence.Event{At: time.Now(), Host: "127.0.0.1", Class: evidence.ServerReject, Said: "554 rejected"})
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// TestNeighboursRefusals: those of another domain's messages on the same host
// do not keep a domain in emergency when its primary is well again.
func TestNeighboursRefusals(t *testing.T) {
	t.Parallel()
	r, p, other := newRig(t, cluster, func(m *Monitor) { m.Detector.Storm = 6 }), newPrimary(t), newPrimary(t)
	r.domain("a.test", directory.Automatic, p.address)
	r.domain("b.test", directory.Manual, other.address)
	wait.True(t, "healthy", func() bool { return r.health("a.test") == "healthy " })
	p.stop()
	r.waitFor("a.test", "emergency failing")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go r.refuse(ctx, 50*time.Millisecond)
	p.start()
	r.waitFor("a.test", "normal")
}

// covered is a queue in which mail of so many covered recipients waits.
type covered struct{ n atomic.Int64 }

func (c *covered) Waiting(context.Context, string) (int, error) { return int(c.n.Load()), nil }

// TestRefusalsOfMailThatNobodyCounts: a domain with selected mailboxes has six
// messages archived, all delivered, while its host refuses many others that
// are not. What waits for the covered ones tells.
func TestRefusalsOfMailThatNobodyCounts(t *testing.T) {
	t.Parallel()
	queue := &covered{}
	r, p := newRig(t, cluster, func(m *Monitor) { m.Detector.Storm, m.Queue = 6, queue; m.stays() }), newPrimary(t)
	r.domain("example.test", directory.Automatic, p.address)
	if _, err := r.store.Pool.Exec(t.Context(), `UPDATE domain SET scope = 'selected'; SELECT ensure_message_partition((now() AT TIME ZONE 'UTC')::date + d) FROM generate_series(0, 1) d`); err != nil {
		t.Fatal(err)
	}
	wait.True(t, "healthy", func() bool { return r.health("example.test") == "healthy " })
	wait.True(t, "the scope", func() bool {
		d, ok := r.monitor.Directory.Domain("example.test")
		return ok && d.Scope == directory.ScopeSelected
	})
	r.accept(6)
	for range 20 {
		r.ring.Add(evidence.Event{At: time.Now(), Host: "127.0.0.1", Class: evidence.ServerReject, Said: "554 spam"})
	}
	probes := func() float64 { return testutil.ToFloat64(r.monitor.Metrics.probes.WithLabelValues("healthy")) }
	wait.True(t, "the refusals", func() bool {
		return testutil.ToFloat64(r.monitor.Metrics.events.WithLabelValues("server-reject")) == 20
	})
	before := probes()
	wait.True(t, "ten more probes", func() bool { return probes() > before+10 })
	if s := r.state("example.test"); s != "normal" {
		t.Fatalf("a false storm: %s", s)
	}
	queue.n.Store(6)
	r.waitFor("example.test", "emergency")
	line, err := r.store.Timeline(t.Context(), "example.test", 1)
	if err != nil || !strings.Contains(line[0].Reason, "6 of 6 deliveries") {
		t.Errorf("%+v, %v", line, err)
	}
}

// TestPersonsSwitchByAClockSetBack is a person's all the same.
func TestPersonsSwitchByAClockSetBack(t *testing.T) {
	t.Parallel()
	r, p := newRig(t, cluster), newPrimary(t)
	r.domain("example.test", directory.Automatic, p.address)
	wait.True(t, "healthy", func() bool { return r.health("example.test") == "healthy " })
	_, err := r.store.Pool.Exec(t.Context(), `UPDATE domain SET mode = 'emergency', mode_manual = true, mode_since = mode_since - interval '1 hour'`)
	if err != nil {
		t.Fatal(err)
	}
	wait.True(t, "the person's switch noticed", func() bool {
		return testutil.ToFloat64(r.monitor.Metrics.switches.WithLabelValues("emergency", "person")) == 1
	})
}

// TestNamesOnlyPlainAddresses: a probe says no SMTPUTF8, so it names nobody
// for whom that is needed.
func TestNamesOnlyPlainAddresses(t *testing.T) {
	t.Parallel()
	d := &directory.Domain{ID: 1, Name: "example.test", Scope: directory.ScopeAll}
	c := &directory.Change{Full: true, Version: 1, Domains: []*directory.Domain{d}}
	for i := range 40 {
		c.Mailboxes = append(c.Mailboxes, &directory.Mailbox{ID: int64(i), DomainID: 1, Address: fmt.Sprintf("usér%d@example.test", i)})
	}
	c.Mailboxes = append(c.Mailboxes, &directory.Mailbox{ID: 99, DomainID: 1, Address: "ana@example.test"})
	dir := directory.New()
	dir.Apply(c)
	w := &watcher{term: &term{Monitor: &Monitor{Directory: dir}}, wake: make(chan struct{}, 1), results: map[detect.Class]int{}}
	w.state.Hidden = true
	w.notice(evidence.Event{Domain: "example.test", Class: evidence.Fallback, Recipient: "usér7@example.test"})
	if got := w.wanted(d); !slices.Equal(got, []string{"ana@example.test"}) {
		t.Errorf("names %q", got)
	}
}

// TestOwnSwitchStands: what the directory still says of the time before it is
// no person's change.
func TestOwnSwitchStands(t *testing.T) {
	t.Parallel()
	r, p := newRig(t, cluster), newPrimary(t)
	r.domain("example.test", directory.Automatic, p.address)
	wait.True(t, "healthy", func() bool { return r.health("example.test") == "healthy " })
	before, _ := r.monitor.Directory.Domain("example.test")
	r.stop()
	w := &watcher{term: &term{Monitor: r.monitor}, name: "example.test"}
	set := w.settings(before)
	w.state = detect.Resume(before, nil, set)
	w.act(t.Context(), detect.Action{To: directory.Emergency, Reason: "test"}, set)
	if s := r.state("example.test"); s != "emergency" {
		t.Fatalf("state %s", s)
	}
	late := *before
	late.Version = w.state.Version - 1 // read before the switch, for another reason
	if s := w.state.Follow(&late, set); s.Mode != directory.Emergency || s.Manual || w.state.Version <= before.Version {
		t.Errorf("mode %s, manual %v, version %d after %d", s.Mode, s.Manual, w.state.Version, before.Version)
	}
}
