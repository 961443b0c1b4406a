// Package detect decides when a domain's mode should change. It is pure: no
// I/O, no clock, no memory of its own.
//
// Evidence is kept apart by class. Only failures that concern a whole server
// count towards an emergency: it cannot be reached, does not answer in time,
// breaks TLS, or refuses us with 4xx or 5xx before any recipient is named
// (RFC 5321 sections 3.1 and 4.5.3.2; RFC 5321 section 4.5.5 obliges servers
// to take mail from <>), or names itself as the reason (RFC 3463: X.3.x).
// Refusals of single recipients, greylisting among them, never switch a
// domain: those messages fall back one by one.
//
// To emergency: Settings.Failures rounds of probes in a row in which every
// primary failed, or a storm (see Storm). Back to normal: every round healthy
// for a while, which doubles with each flap. An emergency declared by a
// person is never ended here, and a person's return to normal stands until
// the primary has been seen healthy, or for as long as a recovery takes.
// Vantage decides, over all domains, whether our own network is the culprit.
package detect

import (
	"slices"
	"time"

	"understudy/internal/directory"
)

// Settings of a domain.
type Settings struct {
	Activation   directory.Activation
	Failures     int           // failed rounds in a row before an emergency
	Storm        int           // deliveries refused for everybody before an emergency; 0: never by these
	RecoverAfter time.Duration // healthy without a break before the return
	RecoverMax   time.Duration // what that grows to by flapping
	FlapWindow   time.Duration // an emergency this soon after a return is a flap
}

// State is what is known of one domain. It is a value: Next returns a new one.
type State struct {
	Mode   directory.Mode // in force
	Manual bool           // by a person
	Since  time.Time      // of Mode
	// Version of the directory that says so. Times do not tell what is newer:
	// the server's clock may be set back.
	Version int64

	// WouldBe is the mode that a domain of activation "observe" would have.
	WouldBe      directory.Mode
	WouldBeSince time.Time

	Hosts    []Host    // of the last round
	Failing  bool      // the present judgement, for the directory
	Failures int       // failed rounds in a row
	FirstAt  time.Time // when those began
	Answered bool      // a healthy round since the last change of mode

	Rounds    int       // healthy rounds in a row
	HealthyAt time.Time // when those began; zero: not healthy

	Fallbacks  int       // deliveries that failed since the last healthy round
	FallbackAt time.Time // the newest
	Storm      Storm
	PickyAt    time.Time // when a probe found recipients put off or refused one by one: greylisting, a full mailbox
	Hidden     bool      // the present emergency does not show in probes that name no recipients
	Blind      bool      // nor in those that do: only mail that comes again can tell
	WasBlind   bool      // the same, of the emergency before

	Returned time.Time // the last automatic return to normal (or would-be return)
	Flaps    int       // emergencies that followed a return too soon, in a row
}

// Action is what the caller shall do. The state takes a switch over only when
// the caller reports it (State.Switched, State.Observed): until then, Next
// asks for it again.
type Action struct {
	To      directory.Mode
	Observe bool   // only record it
	Reason  string // for people
	Facts   Facts
}

// Facts is the evidence of an action, kept as JSON in the timeline.
type Facts struct {
	Rounds    int     `json:"rounds"`              // probes of every primary, in a row
	Seconds   float64 `json:"seconds"`             // in which they were made
	Hosts     []Host  `json:"hosts,omitempty"`     // of the last round
	Fallbacks int     `json:"fallbacks,omitempty"` // deliveries that failed meanwhile
	Refused   int     `json:"refused,omitempty"`   // of a storm: deliveries refused for everybody
	FellBack  int     `json:"fell_back,omitempty"` // of a storm
	Accepted  int     `json:"accepted,omitempty"`  // of a storm: recipients for whom mail was taken meanwhile
	Said      string  `json:"said,omitempty"`      // of a storm: by the server
	Flaps     int     `json:"flaps,omitempty"`     // in a row
}

// fallbackFresh is how long a fallback confirms a failed probe.
const fallbackFresh = 30 * time.Second

// Next takes in evidence and says what follows from it.
func Next(s State, e Evidence, set Settings, now time.Time) (State, []Action) {
	s = s.absorb(e, now)
	raging := s.raging(set, &e, now)
	if raging { // nearly all mail fails: not healthy, whatever probes say
		s.Rounds, s.HealthyAt = 0, time.Time{}
	}
	mode, manual, since := s.Mode, s.Manual, s.Since
	if set.Activation == directory.Observe && !(manual && mode == directory.Emergency) {
		mode, manual, since = s.WouldBe, manual && s.WouldBe == mode, s.WouldBeSince
	}
	switch {
	case set.Activation == directory.Manual || manual && mode == directory.Emergency:
		return s, nil
	case mode == directory.Normal && s.held(manual, since, set, now):
	case mode == directory.Normal && s.Failures >= set.Failures:
		return s, []Action{s.emergency(set, now)}
	case mode == directory.Normal && raging:
		return s, []Action{s.emergencyByStorm(set, &e, now)}
	case mode == directory.Emergency && s.recovered(set, since, now):
		return s, []Action{s.recovery(set, now)}
	}
	return s, nil
}

// absorb counts the evidence.
func (s State) absorb(e Evidence, now time.Time) State {
	s.Storm = s.Storm.absorb(&e, now)
	for _, h := range e.Hosts {
		if h.Class == RecipientDefer || h.Class == RecipientRefused {
			s.PickyAt = now
		}
	}
	// A fallback is of this domain, and a break in its health. A refusal names
	// only a host, and may be of a neighbour's one message: it takes a storm.
	own := e.Deliveries[Fallback]
	failed := own + e.trouble()
	if failed > 0 {
		s.Fallbacks += failed
		s.FallbackAt = now
		s.Failing = s.Failing || s.Failures > 0
	}
	if own > 0 {
		s.Rounds, s.HealthyAt = 0, time.Time{}
	}
	if len(e.Hosts) == 0 {
		return s
	}
	s.Hosts = slices.Clone(e.Hosts)
	down := func(h Host) bool { return h.Class.Down() }
	if !slices.ContainsFunc(e.Hosts, func(h Host) bool { return !down(h) }) {
		s.Rounds, s.HealthyAt = 0, time.Time{}
		if !slices.ContainsFunc(e.Hosts, func(h Host) bool { return h.Recipients > 0 }) {
			s.Storm = Storm{} // what every probe sees explains what deliveries met
		}
		if s.Failures == 0 {
			s.FirstAt = now
		}
		s.Failures++
		confirmed := s.Fallbacks > 0 && now.Sub(s.FallbackAt) <= fallbackFresh
		s.Failing = s.Failing || s.Failures >= 2 || confirmed
		return s
	}
	// One primary that answers is enough: Postfix tries them in order.
	s.Failures, s.FirstAt, s.Failing, s.Answered = 0, time.Time{}, false, true
	if failed == 0 {
		s.Fallbacks = 0
	}
	if own > 0 {
		return s
	}
	if s.Rounds == 0 {
		s.HealthyAt = now
	}
	s.Rounds++
	return s
}

// held reports that a person's return to normal still stands: it is recent,
// and the primary has not been seen healthy since.
func (s State) held(manual bool, since time.Time, set Settings, now time.Time) bool {
	return manual && !s.Answered && now.Sub(since) < set.RecoverAfter
}

// recovered reports that every round was healthy for long enough.
func (s State) recovered(set Settings, since time.Time, now time.Time) bool {
	if s.Rounds == 0 {
		return false
	}
	begin := s.HealthyAt
	if begin.Before(since) {
		begin = since
	}
	return now.Sub(begin) >= Wait(set, s.waits())
}

// waits is how often the time to the return is doubled. Twice more for what
// probes do not see.
func (s State) waits() int {
	if s.Blind {
		return s.Flaps + 2
	}
	return s.Flaps
}

// Wait is how long a primary must be healthy before the return to normal,
// after so many flaps.
func Wait(set Settings, flaps int) time.Duration {
	wait := set.RecoverAfter
	for range flaps {
		if wait *= 2; wait >= set.RecoverMax {
			return max(set.RecoverMax, set.RecoverAfter)
		}
	}
	return wait
}
