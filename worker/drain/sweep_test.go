package drain

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"understudy/internal/directory"
	"understudy/internal/evidence"
	"understudy/internal/job"
)

// clock is what looks go by in a test.
type clock struct{ at time.Time }

// sweeping is a world whose sweep is made by hand, by a clock of its own.
type sweeping struct {
	*world
	*clock
	sweep *Sweep
}

func newSweeping(t *testing.T) *sweeping {
	s := &sweeping{world: newWorld(t)}
	s.restart()
	return s
}

// restart is a new process: nothing is left in memory.
func (s *sweeping) restart() {
	s.clock = &clock{time.Now()}
	c := s.worker.Config
	c.Metrics = nil
	s.worker = New(c)
	s.worker.now = func() time.Time { return s.at }
	s.sweep = NewSweep(s.worker, s.store, nil, time.Minute)
}

// after lets time pass, sweeps, works the drain if one was inserted, and
// returns how many mailboxes the portal was asked about.
func (s *sweeping) after(d time.Duration) (asked int) {
	s.t.Helper()
	s.at = s.at.Add(d)
	s.sweep.sweep(s.t.Context(), true)
	if s.count(`SELECT count(*) FROM river_job WHERE kind = 'drain'`) == 0 {
		return 0
	}
	if queue := job.GatewayQueue("mx1"); s.count(`SELECT count(*) FROM river_job WHERE queue <> '`+queue+`'`) != 0 {
		s.t.Errorf("a job of no gateway, or of another")
	}
	s.exec(`DELETE FROM river_job`)
	before := s.asked()
	if sum, err := s.worker.Run(s.t.Context(), domain); err != nil || sum.Outcome != Complete {
		s.t.Fatalf("run: %+v, %v\n%s", sum, err, s.log)
	}
	return s.asked() - before
}

// asked is how many mailboxes the portal was asked about by this process.
func (s *sweeping) asked() int {
	s.t.Helper()
	return int(testutil.ToFloat64(s.worker.metrics.asked))
}

// quiet lets time pass until nothing is asked any more.
func (s *sweeping) quiet() {
	s.t.Helper()
	for range 100 {
		if s.after(time.Minute); !s.worker.looks.any(domain) {
			return
		}
	}
	s.t.Fatal("the same mailboxes are asked about without end")
}

func fellBack(to string) news {
	return news{events: []evidence.Event{{Domain: domain, Class: evidence.Fallback, Recipient: to}}}
}

// TestAskedAboutWhatMayHoldMail: the portal is asked about all once, then
// about those that mail fell back to; nobody's home is made by asking.
func TestAskedAboutWhatMayHoldMail(t *testing.T) {
	t.Parallel()
	s := newSweeping(t)
	s.portal.Deliver("s@x.test", ana, message(1)) // came while no worker ran
	if n := s.after(0); n != 3 || len(s.primary.Await(ana, 1)) != 1 {
		t.Errorf("at the start %d mailboxes were asked about", n)
	}
	s.quiet()
	for range 5 {
		if n := s.after(time.Minute); n != 0 {
			t.Errorf("%d mailboxes were asked about for nothing", n)
		}
	}
	s.portal.Deliver("s@x.test", bruno, message(2))
	s.sweep.take(fellBack("Bruno+tag@Example.test"))
	if n := s.after(s.sweep.interval); n != 1 || s.left(bruno) != 0 {
		t.Errorf("after a fallback %d mailboxes were asked about, %d messages left", n, s.left(bruno))
	}
	// Postfix had to wait for the portal: the event is old, its message new.
	s.sweep.take(fellBack(bruno))
	for range 20 {
		s.after(time.Minute)
	}
	s.portal.Deliver("s@x.test", bruno, message(3))
	for range 20 {
		s.after(time.Minute)
	}
	if n := s.left(bruno); n != 0 {
		t.Errorf("%d messages left that came late", n)
	}
	s.exactlyOnce(3, map[string]int{ana: 1, bruno: 2})
	if _, err := os.Stat(s.portal.Home(carla)); !os.IsNotExist(err) {
		t.Errorf("carla's home was made by asking: %v", err)
	}
}

// TestNothingIsMissed of what nobody tells: after a switch, when policyd could
// not tell, when what it told cannot be read, after a restart, and at last in
// every case.
func TestNothingIsMissed(t *testing.T) {
	t.Parallel()
	s := newSweeping(t)
	s.after(0)
	for n, c := range []struct {
		name string
		do   func()
		wait time.Duration
	}{
		{"switch back", func() { s.setMode(directory.Emergency); s.setMode(directory.Normal) }, 0},
		{"policyd was started anew", func() { s.sweep.take(news{gap: true}) }, 0},
		{"an address that an event cannot hold", func() { s.sweep.take(fellBack("us?r@example.test")) }, 0},
		{"worker was started anew", s.restart, 0},
		{"nobody told", func() {}, everyone},
	} {
		s.quiet()
		s.portal.Deliver("s@x.test", carla, message(n))
		if asked := s.after(time.Minute); asked != 0 || s.left(carla) != 1 {
			t.Errorf("%s: %d mailboxes were asked about before", c.name, asked)
		}
		c.do()
		if asked := s.after(c.wait); asked != 3 || s.left(carla) != 0 {
			t.Errorf("%s: %d mailboxes were asked about, %d messages left", c.name, asked, s.left(carla))
		}
	}
	// A delivery that was under way at the switch.
	s.quiet()
	s.setMode(directory.Emergency)
	s.setMode(directory.Normal)
	s.after(0)
	s.portal.Deliver("s@x.test", carla, message(5))
	s.quiet()
	s.exactlyOnce(6, map[string]int{carla: 6})
}

// TestTroubleIsLookedAtAgain: what could not be returned stays due, also in a
// process that knows of it from the ledger alone.
func TestTroubleIsLookedAtAgain(t *testing.T) {
	t.Parallel()
	s := newSweeping(t)
	s.after(0)
	s.quiet()
	s.portal.Deliver("s@x.test", ana, message(1))
	s.sweep.take(fellBack(ana))
	s.at = s.at.Add(time.Minute)
	for _, c := range []struct{ stop, start func() }{
		{s.portal.Stop, s.portal.Run}, {s.primary.Stop, func() {}},
	} {
		c.stop()
		if sum, err := s.worker.Run(t.Context(), domain); err != nil || sum.Outcome != Trouble {
			t.Errorf("run: %+v, %v", sum, err)
		}
		if got := s.worker.looks.due(domain, s.at); !slices.Equal(got, []string{ana}) {
			t.Errorf("due after trouble: %v", got)
		}
		c.start()
	}
	s.primary.Run()
	s.worker.looks = looks{} // the ledger knows
	if s.after(time.Minute); s.left(ana) != 0 {
		t.Error("what is open in the ledger was not looked at")
	}
	s.exactlyOnce(1, map[string]int{ana: 1})
}

func TestLooks(t *testing.T) {
	t.Parallel()
	var l looks
	at := func(minutes int) time.Time { return time.Date(2026, 1, 1, 0, minutes, 0, 0, time.UTC) }
	asked := func(mailbox string, from, to int) (out []int) {
		for m := from; m < to; m++ {
			if slices.Contains(l.due("d", at(m)), mailbox) {
				out = append(out, m)
				l.done("d", mailbox, at(m))
			}
		}
		return out
	}
	l.add("d", []string{"once", "often", "both"}, look{at: at(0)})
	l.add("d", []string{"often", "both"}, look{at: at(1), pause: time.Minute, until: at(60)})
	l.add("d", []string{"both"}, look{at: at(5)}) // takes nothing away
	for mailbox, want := range map[string][]int{"once": {0}, "often": {0, 1, 3, 7, 15, 31}, "both": {0, 1, 3, 7, 15, 31}} {
		if diff := cmp.Diff(want, asked(mailbox, 0, 120)); diff != "" {
			t.Errorf("%s: -want +got\n%s", mailbox, diff)
		}
	}
	if l.any("d") {
		t.Errorf("left: %v", l.domains)
	}
	// An event that comes while the portal is being asked.
	l.add("d", []string{"m"}, look{at: at(0)})
	l.add("d", []string{"m"}, look{at: at(1), pause: time.Minute, until: at(60)})
	l.done("d", "m", at(0))
	if got := asked("m", 0, 5); !slices.Equal(got, []int{1, 3}) {
		t.Errorf("after an event in the middle: %v", got)
	}
	// Not dealt with: due until it is.
	l.add("d", []string{"n"}, look{at: at(0)})
	if got := l.due("d", at(100)); !slices.Contains(got, "n") {
		t.Errorf("due %v", got)
	}
	l.keep(map[string]bool{"e": true})
	if l.any("d") {
		t.Error("a removed domain is remembered")
	}
}

// any is whether something is to be asked for, now or later.
func (l *looks) any(domain string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.domains[domain]) > 0
}
