package monitor

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"understudy/internal/directory"
	"understudy/internal/evidence"
	"understudy/internal/wait"
	"understudy/worker/detect"
)

// waitingFor is a queue in which the mail of a test waits.
type waitingFor int

func (n waitingFor) Waiting(context.Context, string) (int, error) { return int(n), nil }

// stays has an emergency last until the test is over.
func (m *Monitor) stays() { m.Detector.RecoverAfter, m.Detector.RecoverMax = time.Hour, time.Hour }

// accept puts n messages for ana into the index.
func (r *rig) accept(n int) {
	r.t.Helper()
	_, err := r.store.Pool.Exec(r.t.Context(), `WITH m AS (SELECT gen_random_uuid() AS id, now() AS received FROM generate_series(1, $1)),
		x AS (INSERT INTO message (id, received, direction, sender, recipients, subject, from_header, to_header, message_id, size, attachments, segment, seg_offset, seg_length, ord, cc_header, route)
			SELECT id, received, 'inbound', '', '{ana@example.test}', '', '', '', '', 1, '{}', 'x', 0, 0, row_number() OVER (), '', '{}' FROM m)
		INSERT INTO message_mailbox SELECT received, id, 'ana@example.test', 'example.test' FROM m`, n)
	if err != nil {
		r.t.Fatal(err)
	}
}

// TestRefusedForEverybody: probes are well, deliveries are refused, and the
// event names only the host.
func TestRefusedForEverybody(t *testing.T) {
	t.Parallel()
	r, p := newRig(t, cluster, func(m *Monitor) {
		m.Detector.Storm, m.Queue = 4, waitingFor(4)
		m.stays()
	}), newPrimary(t)
	r.domain("example.test", directory.Automatic, p.address)
	wait.True(t, "healthy", func() bool { return r.health("example.test") == "healthy " })
	if _, err := r.store.Pool.Exec(t.Context(), `SELECT ensure_message_partition((now() AT TIME ZONE 'UTC')::date + d) FROM generate_series(0, 1) d`); err != nil {
		t.Fatal(err)
	}
	r.accept(4)
	for range 4 {
		r.ring.Add(evidence.Event{At: time.Now(), Host: "127.0.0.1", Class: evidence.ServerReject, Said: "554 Transaction failed"})
	}
	r.waitFor("example.test", "emergency")
	line, err := r.store.Timeline(t.Context(), "example.test", 1)
	if err != nil || !strings.Contains(line[0].Reason, "4 of 4 deliveries") || !strings.Contains(line[0].Reason, "554 Transaction failed") {
		t.Errorf("%+v, %v", line, err)
	}
}

// TestOwnNetwork: four primaries go at once and no witness answers: nobody is
// switched. Then a witness answers, and all are.
func TestOwnNetwork(t *testing.T) {
	t.Parallel()
	var witness atomic.Value
	witness.Store(detect.NoneAnswers)
	r := newRig(t, cluster, func(m *Monitor) {
		m.Vantage = detect.VantageSettings{Share: .5, MinDomains: 3, SecondLook: 300 * time.Millisecond}
		m.Witness = func(context.Context) detect.Witness { return witness.Load().(detect.Witness) }
	})
	names := []string{"a.test", "b.test", "c.test", "d.test"}
	primaries := map[string]*primary{}
	for _, name := range names {
		primaries[name] = newPrimary(t)
		r.domain(name, directory.Automatic, primaries[name].address)
	}
	for _, name := range names {
		wait.True(t, name+" healthy", func() bool { return r.health(name) == "healthy " })
	}
	for _, p := range primaries {
		p.stop()
	}
	view := func(want detect.View) {
		t.Helper()
		wait.True(t, string(want), func() bool {
			v, err := r.store.Vantage(t.Context())
			return err == nil && v != nil && v.View == string(want)
		})
	}
	view(detect.OwnNetwork)
	for _, name := range names {
		if s := r.state(name); s != "normal failing" {
			r.waitFor(name, "normal failing")
		}
	}
	witness.Store(detect.Reachable)
	for _, name := range names {
		r.waitFor(name, "emergency failing")
	}
	line, err := r.store.Timeline(t.Context(), "a.test", 1)
	if err != nil || !strings.Contains(line[0].Reason, "fail at once; a second look confirmed it") {
		t.Errorf("%+v, %v", line, err)
	}
	for _, p := range primaries {
		p.start()
	}
	view(detect.Clear)
	episodes, err := r.store.NetworkEpisodes(t.Context(), "b.test", 10)
	if err != nil || len(episodes) != 2 || episodes[1].Outcome != "own-network" || !strings.Contains(episodes[1].Reason, "primaries fail at once, and no witness answers") ||
		episodes[0].Outcome != "confirmed" || episodes[0].Ended == nil || episodes[1].Ended == nil || episodes[1].Ended.Sub(episodes[1].Began) < 300*time.Millisecond {
		t.Errorf("in the timeline: %+v, %v", episodes, err)
	}
}

// TestOneAmongMany is switched although others are looked at first.
func TestOneAmongMany(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster, func(m *Monitor) {
		m.Vantage = detect.VantageSettings{Share: .5, MinDomains: 3, SecondLook: time.Hour}
	})
	dead := newPrimary(t)
	r.domain("dead.test", directory.Automatic, dead.address)
	for _, name := range []string{"b.test", "c.test", "d.test", "e.test"} {
		r.domain(name, directory.Automatic, newPrimary(t).address)
		wait.True(t, name+" healthy", func() bool { return r.health(name) == "healthy " })
	}
	dead.stop()
	r.waitFor("dead.test", "emergency failing")
}

// TestOwnSettings of a domain win over the worker's.
func TestOwnSettings(t *testing.T) {
	t.Parallel()
	failures, storm, wait := 9, 0, 7200
	w := &watcher{term: &term{Monitor: &Monitor{Detector: detect.Settings{Failures: 3, Storm: 6, RecoverAfter: time.Minute, RecoverMax: time.Hour}}}}
	got := w.settings(&directory.Domain{Activation: directory.Automatic, DetectFailures: &failures, DetectStorm: &storm, RecoverSeconds: &wait})
	if got.Failures != 9 || got.Storm != 0 || got.RecoverAfter != 2*time.Hour || got.RecoverMax != 2*time.Hour {
		t.Errorf("%+v", got)
	}
	if got := w.settings(&directory.Domain{}); got.Failures != 3 || got.Storm != 6 || got.RecoverAfter != time.Minute {
		t.Errorf("defaults: %+v", got)
	}
}
