package detect

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"understudy/internal/directory"
)

var (
	epoch    = time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	settings = Settings{Activation: directory.Automatic, Failures: 3, RecoverAfter: 2 * time.Minute, RecoverMax: 30 * time.Minute, FlapWindow: time.Hour}
)

// world plays a domain: it carries out what the detector asks for.
type world struct {
	state State
	set   Settings
	now   time.Time
	log   []Action
}

func newWorld(activation directory.Activation) *world {
	set := settings
	set.Activation = activation
	d := &directory.Domain{Mode: directory.Normal, ModeSince: epoch.Add(-24 * time.Hour)}
	return &world{state: Resume(d, nil, set), set: set, now: epoch}
}

func (w *world) step(after time.Duration, e Evidence) {
	w.now = w.now.Add(after)
	var actions []Action
	w.state, actions = Next(w.state, e, w.set, w.now)
	for _, a := range actions {
		w.log = append(w.log, a)
		if a.Observe {
			w.state = w.state.Observed(a.To, w.now, w.set)
		} else {
			w.state = w.state.Switched(a.To, false, w.now, w.set)
		}
	}
}

func round(classes ...Class) Evidence {
	var e Evidence
	for i, c := range classes {
		e.Hosts = append(e.Hosts, Host{Host: []string{"mx1:25", "mx2:25"}[i], Class: c})
	}
	return e
}

func deliveries(c Class, n int) Evidence { return Evidence{Deliveries: map[Class]int{c: n}} }

// changes writes the actions short: E, N, or e, n when only observed.
func (w *world) changes() string {
	var b strings.Builder
	for _, a := range w.log {
		letter := map[directory.Mode]string{directory.Emergency: "E", directory.Normal: "N"}[a.To]
		if a.Observe {
			letter = strings.ToLower(letter)
		}
		b.WriteString(letter)
	}
	return b.String()
}

func TestNext(t *testing.T) {
	t.Parallel()
	type steps []Evidence
	repeat := func(n int, e Evidence) (out steps) {
		for range n {
			out = append(out, e)
		}
		return
	}
	join := func(all ...steps) (out steps) {
		for _, s := range all {
			out = append(out, s...)
		}
		return
	}
	for _, c := range []struct {
		name       string
		activation directory.Activation
		every      time.Duration
		steps      steps
		want       string
		failing    bool
	}{
		{"one failed probe is nothing", directory.Automatic, time.Second, repeat(1, round(Unreachable)), "", false},
		{"two say that it fails", directory.Automatic, time.Second, repeat(2, round(Unreachable)), "", true},
		{"three switch", directory.Automatic, time.Second, repeat(3, round(Unreachable)), "E", true},
		{"no answer", directory.Automatic, 6 * time.Second, repeat(3, round(Timeout)), "E", true},
		{"TLS broken", directory.Automatic, time.Second, repeat(3, round(TLS)), "E", true},
		{"4xx for all", directory.Automatic, time.Second, repeat(3, round(ServerTempfail)), "E", true},
		{"5xx for all", directory.Automatic, time.Second, repeat(3, round(ServerReject)), "E", true},
		{"mixed failures", directory.Automatic, time.Second, steps{round(Timeout), round(Unreachable), round(ServerTempfail)}, "E", true},
		{"interrupted failures", directory.Automatic, time.Second,
			steps{round(Timeout), round(Timeout), round(Healthy), round(Timeout), round(Timeout)}, "", true},
		{"one of two primaries is up", directory.Automatic, time.Second, repeat(50, round(Unreachable, Healthy)), "", false},
		{"both are down", directory.Automatic, time.Second, repeat(3, round(Unreachable, Timeout)), "E", true},
		{"greylisting", directory.Automatic, time.Second, repeat(100, Evidence{Hosts: round(Healthy).Hosts, Deliveries: map[Class]int{RecipientDefer: 9, Fallback: 9}}), "", false},
		{"5xx storm of recipients", directory.Automatic, time.Second, repeat(100, deliveries(RecipientRefused, 100)), "", false},
		{"fallbacks without failed probes", directory.Automatic, time.Second, repeat(100, deliveries(Fallback, 100)), "", false},
		{"a fallback confirms a failed probe", directory.Automatic, time.Second, steps{deliveries(Fallback, 1), round(Unreachable)}, "", true},
		{"also when it comes later", directory.Automatic, time.Second, steps{round(Unreachable), deliveries(Fallback, 1)}, "", true},
		{"an old fallback does not", directory.Automatic, time.Minute, steps{deliveries(Fallback, 1), round(Unreachable)}, "", false},
		{"manual never acts", directory.Manual, time.Second, repeat(100, round(Unreachable)), "", true},
		{"observe records once", directory.Observe, time.Second, repeat(100, round(Unreachable)), "e", true},
		{"observe records the return too", directory.Observe, 10 * time.Second, join(repeat(3, round(Unreachable)), repeat(30, round(Healthy))), "en", false},
		{"back after two minutes", directory.Automatic, 10 * time.Second, join(repeat(3, round(Unreachable)), repeat(13, round(Healthy))), "EN", false},
		{"not before", directory.Automatic, 10 * time.Second, join(repeat(3, round(Unreachable)), repeat(12, round(Healthy))), "E", false},
		{"a break begins the wait anew", directory.Automatic, 10 * time.Second,
			join(repeat(3, round(Unreachable)), repeat(10, round(Healthy)), repeat(1, round(Timeout)), repeat(12, round(Healthy))), "E", false},
		{"a fallback is a break", directory.Automatic, 10 * time.Second,
			join(repeat(3, round(Unreachable)), repeat(10, round(Healthy)), repeat(1, deliveries(Fallback, 1)), repeat(12, round(Healthy))), "E", false},
		{"the second emergency lasts twice as long", directory.Automatic, 10 * time.Second,
			join(repeat(3, round(Unreachable)), repeat(13, round(Healthy)), repeat(3, round(Unreachable)), repeat(24, round(Healthy))), "ENE", false},
		{"and no longer", directory.Automatic, 10 * time.Second,
			join(repeat(3, round(Unreachable)), repeat(13, round(Healthy)), repeat(3, round(Unreachable)), repeat(25, round(Healthy))), "ENEN", false},
		{"a quiet hour forgives", directory.Automatic, 10 * time.Second,
			join(repeat(3, round(Unreachable)), repeat(13+361, round(Healthy)), repeat(3, round(Unreachable)), repeat(13, round(Healthy))), "ENEN", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(c.activation)
			for _, e := range c.steps {
				w.step(c.every, e)
			}
			if got := w.changes(); got != c.want || w.state.Failing != c.failing {
				t.Errorf("changes %q, failing %v; want %q, %v", got, w.state.Failing, c.want, c.failing)
			}
		})
	}
}

func TestReason(t *testing.T) {
	t.Parallel()
	w := newWorld(directory.Automatic)
	down := Evidence{Hosts: []Host{{Host: "127.0.0.1:25", Class: Unreachable, Detail: "connection refused"}}}
	w.step(time.Second, down)
	w.step(time.Second, deliveries(Fallback, 4))
	w.step(time.Second, down)
	w.step(time.Second, down)
	for range 13 {
		w.step(10*time.Second, Evidence{Hosts: []Host{{Host: "127.0.0.1:25", Class: Healthy}}})
	}
	var got []string
	for _, a := range w.log {
		got = append(got, a.Reason)
	}
	want := []string{"3 of 3 probes failed in 3.0 s: 127.0.0.1:25 unreachable (connection refused); 4 deliveries fell back",
		"127.0.0.1:25 healthy in 13 probes in a row for 2 min"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestPersonsDecide(t *testing.T) {
	t.Parallel()
	w := newWorld(directory.Automatic)
	w.state = w.state.Follow(&directory.Domain{Mode: directory.Emergency, ModeManual: true, ModeSince: w.now}, w.set)
	for range 2000 {
		w.step(10*time.Second, round(Healthy))
	}
	if w.changes() != "" {
		t.Fatalf("a manual emergency was ended: %q", w.changes())
	}
	// Back to normal by hand, while the primary fails: it stands for a while.
	w.state = w.state.Follow(&directory.Domain{Mode: directory.Normal, ModeSince: w.now}, w.set)
	for range 115 {
		w.step(time.Second, round(Unreachable))
	}
	if w.changes() != "" {
		t.Fatalf("a person's return to normal was undone at once: %q", w.changes())
	}
	for range 10 {
		w.step(time.Second, round(Unreachable))
	}
	if w.changes() != "E" {
		t.Fatalf("changes %q, want the emergency after the hold", w.changes())
	}
	// A person takes the machine's emergency over.
	w.state = w.state.Follow(&directory.Domain{Mode: directory.Emergency, ModeManual: true, ModeSince: w.state.Since}, w.set)
	for range 2000 {
		w.step(10*time.Second, round(Healthy))
	}
	if w.changes() != "E" {
		t.Errorf("an emergency taken over was ended: %q", w.changes())
	}
}

// TestReturnByHandThenNewFailure: once seen healthy, a failure after a
// person's return is a new one.
func TestReturnByHandThenNewFailure(t *testing.T) {
	t.Parallel()
	w := newWorld(directory.Automatic)
	w.state = w.state.Switched(directory.Emergency, true, w.now, w.set).Switched(directory.Normal, true, w.now, w.set)
	w.step(time.Second, round(Healthy))
	for range 3 {
		w.step(time.Second, round(Unreachable))
	}
	if w.changes() != "E" {
		t.Errorf("changes %q, want E", w.changes())
	}
}

// TestFollow: what is newer is told by the directory's version. Its times may
// be older, when the server's clock was set back or two switches overlapped.
func TestFollow(t *testing.T) {
	t.Parallel()
	const n, e = directory.Normal, directory.Emergency
	for _, c := range []struct {
		name    string
		version int64
		mode    directory.Mode
		since   time.Duration // from the detector's switch
		manual  bool
		want    directory.Mode
		person  bool
	}{
		{"news from before the switch", 4, n, -24 * time.Hour, false, e, false},
		{"of the switch itself", 5, e, 0, false, e, false},
		{"a person switched back", 6, n, time.Minute, false, n, true},
		{"by a clock that was set back", 6, n, -time.Hour, false, n, true},
		{"a person took it over", 6, e, 0, true, e, true},
		{"back and again, by a clock that was set back", 8, e, -time.Hour, true, e, true},
	} {
		w := newWorld(directory.Automatic)
		for range 3 {
			w.step(time.Second, round(Unreachable))
		}
		w.state.Version = 5
		s := w.state.Follow(&directory.Domain{Version: c.version, Mode: c.mode, ModeManual: c.manual, ModeSince: w.state.Since.Add(c.since)}, w.set)
		if s.Mode != c.want || s.Manual != c.person || s.Version != max(5, c.version) {
			t.Errorf("%s: %s, manual %v, version %d", c.name, s.Mode, s.Manual, s.Version)
		}
	}
}

func TestResume(t *testing.T) {
	t.Parallel()
	at := func(minutes int) time.Time { return epoch.Add(time.Duration(minutes) * time.Minute) }
	d := &directory.Domain{Mode: directory.Emergency, ModeSince: at(30), PrimaryFailing: true}
	s := Resume(d, []Change{{At: at(30), To: directory.Emergency}, {At: at(20), To: directory.Normal}, {At: at(15), To: directory.Emergency},
		{At: at(10), To: directory.Normal}, {At: at(0), To: directory.Emergency}}, settings)
	if s.Flaps != 2 || s.Manual || !s.Failing || s.Mode != directory.Emergency {
		t.Errorf("after two flaps: %+v", s)
	}
	if got := Wait(settings, s.Flaps); got != 8*time.Minute {
		t.Errorf("wait %v, want 8 min", got)
	}
	s = Resume(&directory.Domain{Mode: directory.Normal, ModeSince: at(0)},
		[]Change{{At: at(40), To: directory.Emergency, Observed: true}, {At: at(0), To: directory.Normal, Manual: true}}, settings)
	if s.Mode != directory.Normal || s.WouldBe != directory.Emergency {
		t.Errorf("observed emergency: %+v", s)
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	for flaps, want := range map[int]time.Duration{0: 2 * time.Minute, 1: 4 * time.Minute, 3: 16 * time.Minute, 4: 30 * time.Minute, 900: 30 * time.Minute} {
		if got := Wait(settings, flaps); got != want {
			t.Errorf("%d flaps: %v, want %v", flaps, got, want)
		}
	}
}
