package detect

import (
	"fmt"
	"strings"
	"time"

	"understudy/internal/directory"
)

// words say each class to people.
var words = map[Class]string{
	Healthy: "healthy", Unreachable: "unreachable", Timeout: "no answer in time", TLS: "TLS broken",
	ServerTempfail: "refuses for now", ServerReject: "refuses", RecipientDefer: "puts off recipients", RecipientRefused: "refuses recipients",
}

// emergencyByStorm is for a server whose probes may all be well.
func (s State) emergencyByStorm(set Settings, e *Evidence, now time.Time) Action {
	took, refused, accepted := now.Sub(s.Storm.Since), s.Storm.refused(e), e.Accepted
	n := refused + s.Storm.FellBack
	reason := fmt.Sprintf("%d of %d deliveries in %s were refused for everybody", n, max(n, accepted), spell(took))
	if s.Storm.FellBack > 0 {
		reason = fmt.Sprintf("%d of %d deliveries in %s failed although recipients are accepted", n, max(n, accepted), spell(took))
	}
	if s.Storm.Said != "" {
		reason += "; the server said: " + s.Storm.Said
	}
	for _, h := range s.Hosts {
		reason += "; probe of " + h.Host + ": " + words[h.Class]
	}
	return s.action(directory.Emergency, set, reason, Facts{Seconds: took.Seconds(), Hosts: s.Hosts,
		Refused: refused, FellBack: s.Storm.FellBack, Accepted: accepted, Said: s.Storm.Said})
}

func (s State) emergency(set Settings, now time.Time) Action {
	took := now.Sub(s.FirstAt)
	hosts := make([]string, len(s.Hosts))
	for i, h := range s.Hosts {
		hosts[i] = h.Host + " " + words[h.Class]
		if h.Detail != "" {
			hosts[i] += " (" + h.Detail + ")"
		}
	}
	reason := fmt.Sprintf("%d of %d probes failed in %s: %s", s.Failures, s.Failures, spell(took), strings.Join(hosts, ", "))
	if s.Fallbacks > 0 {
		reason += fmt.Sprintf("; %d %s", s.Fallbacks, plural(s.Fallbacks, "delivery fell back", "deliveries fell back"))
	}
	return s.action(directory.Emergency, set, reason, Facts{Rounds: s.Failures, Seconds: took.Seconds(), Hosts: s.Hosts, Fallbacks: s.Fallbacks})
}

func (s State) recovery(set Settings, now time.Time) Action {
	took := now.Sub(s.HealthyAt)
	var up []string
	for _, h := range s.Hosts {
		if !h.Class.Down() {
			up = append(up, h.Host)
		}
	}
	reason := fmt.Sprintf("%s healthy in %d probes in a row for %s", strings.Join(up, ", "), s.Rounds, spell(took))
	if s.Flaps > 0 {
		reason += fmt.Sprintf("; %s were asked for after %d %s", spell(Wait(set, s.waits())), s.Flaps, plural(s.Flaps, "flap", "flaps"))
	}
	return s.action(directory.Normal, set, reason, Facts{Rounds: s.Rounds, Seconds: took.Seconds(), Hosts: s.Hosts, Flaps: s.Flaps})
}

func (s State) action(to directory.Mode, set Settings, reason string, f Facts) Action {
	// Activation "observe" ends no emergency and begins none.
	return Action{To: to, Observe: set.Activation != directory.Automatic, Reason: reason, Facts: f}
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// spell writes a duration as people read it.
func spell(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	default:
		return fmt.Sprintf("%.0f min", d.Minutes())
	}
}
