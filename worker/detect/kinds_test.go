package detect

import (
	"strings"
	"testing"
	"time"

	"understudy/internal/directory"
)

// TestKindsOfFailure: for each way in which a primary fails, whether it
// switches, within how many seconds, and with which words.
func TestKindsOfFailure(t *testing.T) {
	t.Parallel()
	one := func(c Class, detail string, recipients int) Evidence {
		return Evidence{Hosts: []Host{{Host: "mx1:25", Class: c, Detail: detail, Recipients: recipients}}}
	}
	met := func(e Evidence, c Class, n, accepted int) Evidence {
		e.Deliveries, e.Accepted, e.Said = map[Class]int{c: n}, accepted, "554 Transaction failed"
		return e
	}
	well := one(Healthy, "", 0)
	for _, c := range []struct {
		name   string
		every  time.Duration
		rounds func(i int) Evidence // one each
		within time.Duration        // 0: never in 300 rounds
		words  string
	}{
		{"dead host", 6 * time.Second, func(int) Evidence { return one(Timeout, "connect: no answer within 5s", 0) }, 18 * time.Second, "no answer in time (connect: no answer within 5s)"},
		{"dead port", time.Second, func(int) Evidence { return one(Unreachable, "connect: connection refused", 0) }, 3 * time.Second, "3 of 3 probes failed in 2.0 s: mx1:25 unreachable (connect: connection refused)"},
		{"DNS failure", time.Second, func(int) Evidence { return one(Unreachable, "name lookup: no such host", 0) }, 3 * time.Second, "name lookup"},
		{"TLS failure", time.Second, func(int) Evidence { return one(TLS, "TLS handshake: EOF", 0) }, 3 * time.Second, "TLS broken"},
		{"421 at banner", time.Second, func(int) Evidence { return one(ServerTempfail, "banner: 421 busy", 0) }, 3 * time.Second, "refuses for now (banner: 421 busy)"},
		{"451 4.3.2 to everybody", time.Second, func(i int) Evidence {
			if i == 0 {
				return met(well, Fallback, 1, 1)
			}
			return one(ServerTempfail, "RCPT: 451 4.3.2 later", 2)
		}, 4 * time.Second, "RCPT: 451 4.3.2 later"},
		{"451 4.7.500 to some", time.Second, func(i int) Evidence { return met(one(RecipientDefer, "RCPT: 451 4.7.500 busy", 3), Fallback, 1, 3*i+3) }, 0, ""},
		{"greylisting", time.Second, func(i int) Evidence { return met(one(RecipientDefer, "RCPT: 450 4.7.1 grey", 1), Fallback, 1, i+1) }, 0, ""},
		{"greylisting that knows our probe by now", time.Second, func(i int) Evidence {
			if i == 0 {
				return met(one(RecipientDefer, "RCPT: 450 4.7.1 grey", 1), Fallback, 1, 1)
			}
			return met(one(Healthy, "", 1), Fallback, 1, i+1)
		}, 0, ""},
		{"one mailbox over quota", time.Second, func(i int) Evidence { return met(well, RecipientRefused, 1, 10*i+10) }, 0, ""},
		{"554 to everybody", time.Second, func(i int) Evidence { return met(well, ServerReject, 1, i+1) }, 6 * time.Second, "6 of 6 deliveries in 5.0 s were refused for everybody; the server said: 554 Transaction failed; probe of mx1:25: healthy"},
		{"554 to half", time.Second, func(i int) Evidence { return met(well, ServerReject, 1, 2*i+2) }, 0, ""},
		{"554 to mail that nobody counts", time.Second, func(i int) Evidence {
			e := met(well, ServerReject, 1, i+1)
			e.Strangers = true
			return e
		}, 0, ""},
		{"554 to everybody who is counted", time.Second, func(i int) Evidence {
			e := met(well, ServerReject, 5, i+1)
			e.Strangers, e.Waiting = true, i+1
			return e
		}, 6 * time.Second, "6 of 6 deliveries"},
		{"554, and nobody knows to how many", time.Second, func(int) Evidence { return met(well, ServerReject, 1, 0) }, 0, ""},
		{"554 to everybody, slowly: they wait", 3 * time.Minute, func(i int) Evidence {
			e := met(well, ServerReject, i+1, i+1)
			e.Waiting = i + 1
			return e
		}, 18 * time.Minute, "were refused for everybody"},
		{"after the data, everybody falls back", 10 * time.Second, func(i int) Evidence { return met(one(Healthy, "", 2), Fallback, 1, i+1) }, 80 * time.Second, "failed although recipients are accepted"},
		{"flapping every 30 s", 10 * time.Second, func(i int) Evidence {
			if i/3%2 == 0 {
				return one(Unreachable, "", 0)
			}
			return well
		}, 30 * time.Second, "3 of 3 probes"},
		{"one of two hosts down", time.Second, func(int) Evidence { return round(Unreachable, Healthy) }, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(directory.Automatic)
			w.set.Storm = 6
			took := time.Duration(0)
			for i := 0; i < 300 && len(w.log) == 0; i++ {
				w.step(c.every, c.rounds(i))
				took += c.every
			}
			if len(w.log) == 0 {
				if c.within > 0 {
					t.Error("never switched")
				}
				return
			}
			if c.within == 0 || took > c.within || !strings.Contains(w.log[0].Reason, c.words) {
				t.Errorf("after %v: %s; want %v, %q", took, w.log[0].Reason, c.within, c.words)
			}
		})
	}
}

// TestFlappingStays: a server that comes and goes every half minute brings one
// emergency, not one every minute.
func TestFlappingStays(t *testing.T) {
	t.Parallel()
	w := newWorld(directory.Automatic)
	for i := range 2000 {
		w.step(10*time.Second, round([]Class{Unreachable, Healthy}[i/3%2]))
	}
	if w.changes() != "E" {
		t.Errorf("changes %q", w.changes())
	}
}

// TestStormReturn: what probes cannot see is asked for longer, and less mail
// brings the emergency back.
func TestStormReturn(t *testing.T) {
	t.Parallel()
	w := newWorld(directory.Automatic)
	w.set.Storm = 6
	storm := func(n int) {
		e := round(Healthy)
		e.Deliveries, e.Accepted = map[Class]int{ServerReject: n}, n
		w.step(time.Second, e)
	}
	storm(6)
	if w.changes() != "E" || !w.state.Blind || !w.state.Hidden {
		t.Fatalf("%q, %+v", w.changes(), w.state)
	}
	for range 48 {
		w.step(10*time.Second, round(Healthy))
	}
	if w.changes() != "E" {
		t.Fatal("went back before 8 minutes")
	}
	w.step(10*time.Second, round(Healthy))
	storm(2)
	if w.changes() != "ENE" {
		t.Errorf("changes %q, want ENE", w.changes())
	}
}

// TestNeighbours: a refusal names only a host. Those of a neighbour's single
// messages do not keep a healthy domain in its emergency; a storm of them does.
func TestNeighbours(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		refused, accepted int // each minute
		class             Class
		strangers         bool
		want              string
	}{
		"spam of a neighbour":       {1, 20, ServerReject, false, "EN"},
		"too many connections":      {1, 20, ServerTempfail, false, "EN"},
		"nobody knows of how many":  {9, 0, ServerReject, false, "EN"},
		"mail that nobody counts":   {9, 9, ServerReject, true, "EN"},
		"nearly all of it":          {9, 9, ServerReject, false, "E"},
		"a message of its own fell": {1, 20, Fallback, false, "E"},
	} {
		w := newWorld(directory.Automatic)
		w.set.Storm = 6
		for range 3 {
			w.step(10*time.Second, round(Unreachable))
		}
		for i := range 60 {
			e := round(Healthy)
			if i%6 == 0 {
				e.Deliveries = map[Class]int{c.class: c.refused}
			}
			e.Accepted, e.Strangers = c.accepted, c.strangers
			w.step(10*time.Second, e)
		}
		if w.changes() != c.want {
			t.Errorf("%s: %q, want %q", name, w.changes(), c.want)
		}
	}
}

func TestVantage(t *testing.T) {
	t.Parallel()
	set := VantageSettings{Share: .5, MinDomains: 3, SecondLook: 30 * time.Second}
	mass, none := Outlook{Watched: 6, Failing: 5}, Outlook{Watched: 6, Failing: 1}
	with := func(o Outlook, w Witness) Outlook { o.Witness = w; return o }
	type look struct {
		after time.Duration
		o     Outlook
		want  View
	}
	for name, looks := range map[string][]look{
		"few domains are never many": {{0, Outlook{Watched: 2, Failing: 2}, Clear}},
		"less than the share":        {{0, Outlook{Watched: 100, Failing: 49}, Clear}},
		"our own network": {{0, mass, SecondLook}, {29 * time.Second, mass, SecondLook}, {time.Second, with(mass, NoneAnswers), OwnNetwork},
			{time.Hour, with(mass, NoneAnswers), OwnNetwork}, {time.Second, none, Settling}, {29 * time.Second, none, Settling}, {time.Second, none, Clear}},
		"really all":               {{0, mass, SecondLook}, {30 * time.Second, with(mass, Reachable), Confirmed}, {time.Hour, none, Clear}},
		"no witnesses":             {{0, mass, SecondLook}, {30 * time.Second, mass, Confirmed}},
		"the network comes back":   {{0, mass, SecondLook}, {30 * time.Second, with(mass, NoneAnswers), OwnNetwork}, {time.Second, with(mass, Reachable), SecondLook}, {30 * time.Second, with(mass, Reachable), Confirmed}},
		"a blink":                  {{0, mass, SecondLook}, {time.Second, none, Settling}, {time.Minute, none, Clear}},
		"and again while settling": {{0, mass, SecondLook}, {time.Second, none, Settling}, {time.Second, mass, SecondLook}},
	} {
		if never := (Vantage{}).Next(mass, VantageSettings{Share: .5, SecondLook: set.SecondLook}, epoch); never.View != Clear {
			t.Errorf("min_domains 0: %s, although our own network is never suspected", never.View)
		}
		v, now := Vantage{}, epoch
		for i, l := range looks {
			now = now.Add(l.after)
			v = v.Next(l.o, set, now)
			if v.View != l.want || v.Allows() != (l.want == Clear || l.want == Confirmed) {
				t.Errorf("%s, look %d: %s, want %s", name, i, v.View, l.want)
			}
		}
	}
}

// FuzzNext: whatever comes, a manual emergency stays, an emergency lasts as
// long as the damping says, and manual domains are left alone.
func FuzzNext(f *testing.F) {
	f.Add([]byte("\x02\x02\x02\x00\x00\x00\x00"))
	f.Add([]byte{5, 77, 200, 13, 0, 0, 0, 0, 255, 2, 2, 2})
	classes := []Class{Healthy, Healthy, Unreachable, Timeout, TLS, ServerTempfail, ServerReject, RecipientDefer}
	f.Fuzz(func(t *testing.T, script []byte) {
		w := newWorld(directory.Automatic)
		w.set.Storm = 6
		began := w.now
		for i, b := range script {
			e := round(classes[b&7])
			e.Hosts[0].Recipients = int(b >> 7)
			if b&8 != 0 {
				e.Deliveries = map[Class]int{[]Class{Fallback, ServerReject}[b>>4&1]: int(b >> 5), RecipientRefused: 1}
				e.Accepted = int(b>>5) + int(b>>4&1)
			}
			if i%50 == 49 {
				w.state = w.state.Switched(directory.Emergency, true, w.now, w.set)
			}
			manual := w.state.Manual && w.state.Mode == directory.Emergency
			flaps, seen := w.state.Flaps, len(w.log)
			w.step(time.Duration(1+b%40)*time.Second, e)
			for _, a := range w.log[seen:] {
				switch {
				case manual:
					t.Fatalf("step %d: a manual emergency was touched: %s", i, a.Reason)
				case a.To == directory.Emergency:
					began = w.now
				case w.now.Sub(began) < Wait(w.set, flaps):
					t.Fatalf("step %d: back after %v with %d flaps", i, w.now.Sub(began), flaps)
				}
			}
			if manual && i%97 == 96 { // a person ends it
				w.state = w.state.Switched(directory.Normal, true, w.now, w.set)
			}
		}
	})
}
