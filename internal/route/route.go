// Package route is the one place that decides where a recipient's mail goes.
package route

import (
	"strings"

	"understudy/internal/directory"
	"understudy/internal/nexthop"
)

// Route is where mail for one recipient goes.
type Route int

// The four routes.
const (
	NotOurs     Route = iota // not a domain of ours: Postfix's default route
	PrimaryAuto              // to the primary; a failed attempt falls back to the portal at once
	PrimaryHold              // to the primary; a failed attempt stays queued
	Portal                   // to the portal mailbox
)

// String names the route as metrics and logs do.
func (r Route) String() string {
	return [...]string{"not-ours", "primary-auto", "primary-hold", "portal"}[r]
}

// For decides the route of a recipient. Only mail that the portal can keep
// (covered and registered) ever goes there: LMTP would bounce the rest.
func For(r directory.Recipient) Route {
	switch {
	case r.Domain == nil:
		return NotOurs
	case !r.Covered || !r.Registered:
		return PrimaryHold
	case r.Domain.Mode == directory.Emergency:
		return Portal
	case r.Domain.Activation == directory.Automatic:
		return PrimaryAuto
	default:
		return PrimaryHold
	}
}

// NextHop writes a domain's primaries as a Postfix next hop: a list tried in
// order (transport(5)).
func NextHop(d *directory.Domain) string {
	hops := make([]string, 0, len(d.Primaries))
	for _, p := range d.Primaries {
		h, err := nexthop.Parse(p)
		if err != nil { // the store refuses these; never guess where mail goes
			continue
		}
		hops = append(hops, h.Postfix())
	}
	return strings.Join(hops, ",")
}
