package detect

import (
	"fmt"
	"time"
)

// View is whether this worker can see at all: when the primaries of most
// domains fail at once, it is more likely our own network that is down.
type View string

// The views.
const (
	Clear      View = "clear"       // nothing unusual
	SecondLook View = "second-look" // most primaries fail; no switch before another look
	Confirmed  View = "confirmed"   // they really do: switches go on
	OwnNetwork View = "own-network" // the witnesses do not answer either: no switch
	Settling   View = "settling"    // it is over, but some have not been looked at again: no switch
)

// Outlook is what is seen of all domains at a moment.
type Outlook struct {
	Watched, Failing int     // different sets of primaries: a hundred domains on one server count once
	Witness          Witness // asked only when the view depends on it
}

// Witness is what became of asking hosts that have nothing to do with the
// customers.
type Witness string

// What witnesses can tell.
const (
	NoWitness   Witness = ""            // there are none, or they were not asked
	Reachable   Witness = "reachable"   // at least one
	NoneAnswers Witness = "unreachable" // none
)

// VantageSettings are the worker's.
type VantageSettings struct {
	Share      float64       // of all sets of primaries
	MinDomains int           // and at least so many; 0: never suspect our own network
	SecondLook time.Duration // from the first look to the second
}

// Vantage is the view and its history. It is a value: Next returns a new one.
type Vantage struct {
	View    View
	Since   time.Time
	Failing int // at the last look
	Watched int
}

// Allows reports whether a domain may be switched to emergency.
func (v Vantage) Allows() bool { return v.View == Clear || v.View == Confirmed || v.View == "" }

// Mass reports that most primaries fail.
func (o Outlook) Mass(set VantageSettings) bool {
	return set.MinDomains > 0 && o.Failing >= set.MinDomains && float64(o.Failing) >= set.Share*float64(o.Watched)
}

// WantsWitness reports whether Next needs to know what the witnesses say.
func (v Vantage) WantsWitness(o Outlook, set VantageSettings, now time.Time) bool {
	switch v.View {
	case SecondLook:
		return o.Mass(set) && now.Sub(v.Since) >= set.SecondLook
	case OwnNetwork, Confirmed:
		return o.Mass(set)
	}
	return false
}

// Next takes another look.
func (v Vantage) Next(o Outlook, set VantageSettings, now time.Time) Vantage {
	to := v.View
	switch {
	case !o.Mass(set) && (v.View == SecondLook || v.View == OwnNetwork):
		to = Settling
	case !o.Mass(set) && v.View == Settling && now.Sub(v.Since) < set.SecondLook:
	case !o.Mass(set):
		to = Clear
	case v.View == Clear || v.View == Settling || v.View == "":
		to = SecondLook
	case v.View == SecondLook && now.Sub(v.Since) < set.SecondLook:
	case v.View == OwnNetwork && o.Witness != NoneAnswers:
		to = SecondLook // the network is back: what was seen without it means nothing
	case o.Witness == NoneAnswers:
		to = OwnNetwork
	default:
		to = Confirmed
	}
	since := v.Since
	if to != v.View {
		since = now
	}
	return Vantage{View: to, Since: since, Failing: o.Failing, Watched: o.Watched}
}

// Text says it to people.
func (v Vantage) Text() string {
	seen := fmt.Sprintf("%d of %d primaries fail at once", v.Failing, v.Watched)
	switch v.View {
	case SecondLook:
		return seen + "; no domain is switched before a second look."
	case Settling:
		return "Most primaries failed at once and answer again; no domain is switched before another look."
	case Confirmed:
		return seen + "; a second look confirmed it, so domains are switched."
	case OwnNetwork:
		return seen + ", and no witness answers: our own network seems to be down. No domain is switched; mail falls back one by one meanwhile."
	}
	return ""
}
