package detect

import (
	"math/rand/v2"
	"testing"
	"time"

	"understudy/internal/directory"
)

// TestRandomWalks checks, over many lives of a domain, what must never be.
func TestRandomWalks(t *testing.T) {
	t.Parallel()
	classes := []Class{Healthy, Healthy, Unreachable, Timeout, TLS, ServerTempfail, ServerReject}
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		w := newWorld([]directory.Activation{directory.Automatic, directory.Automatic, directory.Observe, directory.Manual}[rnd.IntN(4)])
		sticky, allDown, mails := classes[0], 0, 0
		var emergencyAt, healthyAt, returnedAt time.Time
		flaps := 0
		for range 3000 {
			if rnd.IntN(6) == 0 {
				sticky = classes[rnd.IntN(len(classes))]
			}
			var e Evidence
			if rnd.IntN(4) > 0 {
				e = round(sticky)
			}
			if rnd.IntN(3) == 0 {
				e.Deliveries = map[Class]int{[]Class{RecipientDefer, RecipientRefused, Fallback}[rnd.IntN(3)]: 1 + rnd.IntN(9)}
				mails++
			}
			to := []directory.Mode{directory.Normal, directory.Emergency}[rnd.IntN(2)]
			if rnd.IntN(400) == 0 && to != w.state.Mode { // a person changes the mode
				w.state = w.state.Switched(to, true, w.now, w.set)
				flaps, returnedAt, emergencyAt = 0, time.Time{}, w.now
				healthyAt, allDown = time.Time{}, 0
			}
			before, seen := w.state, len(w.log)
			w.step(time.Duration(1+rnd.IntN(40))*time.Second, e)
			if len(e.Hosts) > 0 {
				if e.Hosts[0].Class.Down() {
					allDown++
				} else {
					allDown = 0
				}
				if e.Hosts[0].Class == Healthy && healthyAt.IsZero() {
					healthyAt = w.now
				}
				if e.Hosts[0].Class != Healthy {
					healthyAt = time.Time{}
				}
			}
			if e.Deliveries[Fallback] > 0 {
				healthyAt = time.Time{}
			}
			for _, a := range w.log[seen:] {
				switch {
				case w.set.Activation == directory.Manual:
					t.Fatalf("seed %d: activation manual acted: %s", seed, a.Reason)
				case before.Manual && before.Mode == directory.Emergency:
					t.Fatalf("seed %d: manual emergency touched: %s", seed, a.Reason)
				case a.To == directory.Emergency && allDown < w.set.Failures:
					t.Fatalf("seed %d: switched after %d failed probes: %s", seed, allDown, a.Reason)
				case a.To == directory.Normal && (healthyAt.IsZero() || w.now.Sub(healthyAt) < Wait(w.set, flaps) || w.now.Sub(emergencyAt) < Wait(w.set, flaps)):
					t.Fatalf("seed %d: returned too soon after %d flaps: %s", seed, flaps, a.Reason)
				}
				if a.To == directory.Emergency {
					flaps++
					if returnedAt.IsZero() || w.now.Sub(returnedAt) >= w.set.FlapWindow {
						flaps = 0
					}
					emergencyAt = w.now
				} else {
					returnedAt = w.now
				}
				healthyAt = time.Time{}
			}
		}
		if mails == 0 {
			t.Fatalf("seed %d met no deliveries", seed)
		}
	}
}

// TestRecipientTroubleAloneNeverSwitches: whatever recipients meet, as long as
// the server itself answers.
func TestRecipientTroubleAloneNeverSwitches(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	w := newWorld(directory.Automatic)
	for range 20000 {
		e := Evidence{Deliveries: map[Class]int{}}
		for _, c := range []Class{RecipientDefer, RecipientRefused, Fallback} {
			e.Deliveries[c] = rnd.IntN(20)
		}
		if rnd.IntN(2) == 0 {
			e.Hosts = []Host{{Host: "mx1:25", Class: []Class{Healthy, RecipientDefer, RecipientRefused}[rnd.IntN(3)]}}
		}
		w.step(time.Second, e)
	}
	if w.changes() != "" || w.state.Failing {
		t.Errorf("changes %q, failing %v", w.changes(), w.state.Failing)
	}
}
