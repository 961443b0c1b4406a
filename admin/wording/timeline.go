package wording

import (
	"slices"
	"time"

	"understudy/internal/store"
)

// Entry is one row of a domain's timeline: a change of its mode, or a time in
// which most primaries failed at once.
type Entry struct {
	At      time.Time
	Change  *store.ModeChange     // or nil
	Episode *store.NetworkEpisode // or nil
}

// Timeline puts changes and episodes into one order, newest first, and keeps
// the newest of them.
func Timeline(changes []store.ModeChange, episodes []store.NetworkEpisode, most int) []Entry {
	var out []Entry
	for i := range changes {
		out = append(out, Entry{At: changes[i].At, Change: &changes[i]})
	}
	for i := range episodes {
		out = append(out, Entry{At: episodes[i].Began, Episode: &episodes[i]})
	}
	slices.SortStableFunc(out, func(a, b Entry) int { return b.At.Compare(a.At) })
	return out[:min(len(out), most)]
}

// Line is the entry in words, without its time.
func (e *Entry) Line() string {
	if e.Change != nil {
		return Change(e.Change)
	}
	return Episode(e.Episode) + ": " + e.Episode.Reason
}

// Episode says what an episode was, without its evidence.
func Episode(e *store.NetworkEpisode) string {
	switch {
	case e.Outcome == "own-network" && e.Ended == nil:
		return "our own network seems to be down: no domain is switched"
	case e.Outcome == "own-network":
		return "our own network was down until " + Since(*e.Ended) + ": no domain was switched"
	case e.Outcome == "confirmed" && e.Ended == nil:
		return "most primaries fail at once, and really"
	case e.Outcome == "confirmed":
		return "most primaries failed at once, and really, until " + Since(*e.Ended)
	case e.Ended == nil:
		return "most primaries fail at once: no domain is switched before a second look"
	}
	return "most primaries failed at once and answered again before a second look, which ended " + Since(*e.Ended)
}
