package detect

import (
	"slices"
	"time"

	"understudy/internal/directory"
)

// Change is one switch of the past.
type Change struct {
	At       time.Time
	To       directory.Mode
	Manual   bool
	Observed bool // only recorded
	Facts    Facts
}

// Resume is the state of a domain when its watch begins: what the directory
// says, and the flaps that its newest changes (newest first) tell of. Probes
// start from nothing.
func Resume(d *directory.Domain, newestFirst []Change, set Settings) State {
	s := State{Mode: d.Mode, Manual: d.Mode == directory.Emergency && d.ModeManual, Since: d.ModeSince, Version: d.Version,
		WouldBe: d.Mode, WouldBeSince: d.ModeSince, Failing: d.PrimaryFailing}
	for _, c := range slices.Backward(newestFirst) {
		if c.Observed {
			s = s.Observed(c.To, c.At, set)
		} else {
			s = s.note(c.To, c.Manual, c.At, set)
			s.WouldBe, s.WouldBeSince = d.Mode, d.ModeSince
		}
		s.Hosts = c.Facts.Hosts
		s = s.see(c.To, c.To == directory.Emergency && !c.Manual && c.Facts.Refused+c.Facts.FellBack > 0)
		s.Hosts = nil
	}
	if n := len(newestFirst); n > 0 && newestFirst[0].Manual && newestFirst[0].To == d.Mode {
		s.Manual = true // also a return to normal
	}
	return s
}

// Switched is the state after a change of mode, the detector's own or a
// person's. What was counted towards a change begins anew.
func (s State) Switched(to directory.Mode, manual bool, at time.Time, set Settings) State {
	if to != s.Mode {
		s = s.note(to, manual, at, set)
		s = s.see(to, to == directory.Emergency && !manual && s.Failures < set.Failures)
		s.Failures, s.FirstAt, s.Answered = 0, time.Time{}, false
		s.Rounds, s.HealthyAt = 0, time.Time{}
		s.Storm = Storm{}
	}
	s.Mode, s.Manual, s.Since = to, manual, at
	s.WouldBe, s.WouldBeSince = to, at
	return s
}

// Follow takes over what the directory says of the mode, unless that is older
// than what was carried out already. A change that the detector did not make
// is a person's.
func (s State) Follow(d *directory.Domain, set Settings) State {
	if d.Version < s.Version {
		return s
	}
	switch {
	case d.Mode != s.Mode || !d.ModeSince.Equal(s.Since):
		s = s.Switched(d.Mode, true, d.ModeSince, set)
	case d.Mode == directory.Emergency:
		s.Manual = d.ModeManual // a person may take an emergency over
	}
	s.Version = d.Version
	return s
}

// Observed is the state after an action of a domain of activation "observe"
// was recorded.
func (s State) Observed(to directory.Mode, at time.Time, set Settings) State {
	s = s.note(to, false, at, set)
	s = s.see(to, to == directory.Emergency && s.Failures < set.Failures)
	s.Storm = Storm{}
	s.WouldBe, s.WouldBeSince = to, at
	s.Rounds, s.HealthyAt = 0, time.Time{}
	return s
}

// see keeps what probes can tell of the emergency that begins or ends.
func (s State) see(to directory.Mode, blind bool) State {
	s.WasBlind = s.Blind
	s.Blind = blind
	s.Hidden = to == directory.Emergency && (blind || slices.ContainsFunc(s.Hosts, func(h Host) bool { return h.Recipients > 0 }))
	return s
}

// note counts flaps: an emergency soon after an automatic return is one more
// in a row, any other ends the row.
func (s State) note(to directory.Mode, manual bool, at time.Time, set Settings) State {
	switch {
	case manual:
		s.Returned, s.Flaps = time.Time{}, 0
	case to == directory.Normal:
		s.Returned = at
	case !s.Returned.IsZero() && at.Sub(s.Returned) < set.FlapWindow:
		s.Flaps++
	default:
		s.Flaps = 0
	}
	return s
}
