package detect

import "time"

// Storm is a run of deliveries that a primary refuses or puts off although
// its probes are well: a full disk that answers 552 after the data, 451 to
// everybody. A run ends when none was seen for stormGap.
type Storm struct {
	Since, Last time.Time // zero: no run
	// Refused is the most within stormWindow that named the server itself as
	// the reason, or no reason (RFC 3463: X.3.x, X.0.0). A longer sum would
	// count the same message at each of its attempts.
	Refused  int
	Window   time.Time // when the present one began
	InWindow int
	FellBack int    // messages that fell back, for whatever reason: these come once
	Asked    bool   // a probe that named recipients found them accepted
	Said     string // by the server, newest
}

const (
	stormGap    = 15 * time.Minute // some domains get little mail
	stormWindow = 2 * time.Minute  // as long as Postfix waits before it tries again (minimal_backoff_time)
	stormShort  = time.Minute      // fallbacks alone must go on for so long
	stormShare  = 0.9              // of all deliveries
	stormAgain  = 3                // of Settings.Storm: less is enough soon after a return that nothing but mail could test
	pickyFor    = 24 * time.Hour   // how long a server that puts off recipients is known for it
)

// trouble is how many of the deliveries say that the server itself fails.
func (e *Evidence) trouble() (n int) {
	for c, k := range e.Deliveries {
		if c.Down() {
			n += k
		}
	}
	return n
}

// absorb takes in what deliveries and probes with recipients say.
func (s Storm) absorb(e *Evidence, now time.Time) Storm {
	refused, fell := e.trouble(), e.Deliveries[Fallback]
	if refused+fell > 0 {
		if s.Since.IsZero() || now.Sub(s.Last) > stormGap {
			s = Storm{Since: now, Window: now}
		}
		s.Last = now
		if now.Sub(s.Window) >= stormWindow {
			s.Window, s.InWindow = now, 0
		}
		s.InWindow += refused
		s.Refused = max(s.Refused, s.InWindow)
		s.FellBack += fell
		if e.Said != "" {
			s.Said = e.Said
		}
	}
	if s.Since.IsZero() {
		return s
	}
	if now.Sub(s.Last) > stormGap {
		return Storm{}
	}
	for _, h := range e.Hosts {
		s.Asked = s.Asked || h.Class == Healthy && h.Recipients > 0
	}
	return s
}

// Fresh reports whether a probe should name recipients: mail met trouble of
// late.
func (s Storm) Fresh(now time.Time) bool { return !s.Since.IsZero() && now.Sub(s.Last) < 2*time.Minute }

// raging reports that nearly all deliveries of the run met it. While it is
// not known how many there were (Evidence.Accepted), a run proves nothing.
//
// Refusals for the whole server are enough; fallbacks count only where a
// probe found recipients accepted, and none put off, so that greylisting
// never adds up to one.
func (s State) raging(set Settings, e *Evidence, now time.Time) bool {
	need, x := s.stormNeed(set, now), s.Storm
	if need <= 0 || x.Since.IsZero() || e.Accepted < need {
		return false
	}
	n := x.refused(e)
	if picky := !s.PickyAt.IsZero() && now.Sub(s.PickyAt) < pickyFor; x.Asked && !picky && now.Sub(x.Since) >= stormShort {
		n += x.FellBack
	}
	return n >= need && float64(n) >= stormShare*float64(e.Accepted)
}

// refused is how many refusals are of mail that Evidence.Accepted counts.
func (s *Storm) refused(e *Evidence) int {
	if e.Strangers {
		return e.Waiting
	}
	return max(s.Refused, e.Waiting)
}

// stormNeed is how many deliveries make a storm; 0 is none ever do.
func (s State) stormNeed(set Settings, now time.Time) int {
	if set.Storm > 0 && s.WasBlind && now.Sub(s.Returned) < set.FlapWindow {
		return max(1, set.Storm/stormAgain)
	}
	return set.Storm
}

// StormSince says since when deliveries are to be counted for
// Evidence.Accepted; ok is false while that does not matter.
func (s State) StormSince(set Settings, now time.Time) (since time.Time, ok bool) {
	need := s.stormNeed(set, now)
	return s.Storm.Since, need > 0 && !s.Storm.Since.IsZero() && (s.Storm.Refused > 0 || s.Storm.FellBack >= need)
}
