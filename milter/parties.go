package main

import (
	"net/netip"
	"slices"
	"strings"

	"understudy/internal/address"
	"understudy/internal/archive"
	"understudy/internal/directory"
	"understudy/internal/route"
)

// origin is what Postfix said of where a message comes from.
type origin struct {
	client string // {client_addr}: an IP address, or empty for local submission
	login  string // {auth_authen}: the SASL login name, or empty
	sender string // envelope sender, raw
}

// verdict is what becomes of a message, decided from the envelope alone.
type verdict struct {
	direction archive.Direction
	covered   bool     // archive it
	mailboxes []string // canonical addresses of the covered parties
	route     []string // of archive.Routes, in their order
}

// decide classifies a message. Addresses that do not parse belong to nobody:
// they are not covered, but never a reason to refuse.
func decide(dir *directory.Directory, from origin, recipients []string) verdict {
	v := verdict{direction: archive.Inbound}
	sender, own := ownSender(dir, from)
	if own {
		v.direction = archive.Outbound
		v.add(sender)
	}
	allOurs := len(recipients) > 0
	to := map[string]bool{}
	for _, raw := range recipients {
		a, err := address.Parse(raw)
		if err != nil {
			allOurs = false
			to[archive.RouteInternet] = true
			continue
		}
		r := dir.Recipient(a)
		allOurs = allOurs && (r.Registered || r.Covered)
		v.add(r)
		to[routeOf(r)] = true
	}
	for _, place := range archive.Routes {
		if to[place] {
			v.route = append(v.route, place)
		}
	}
	if own && allOurs {
		v.direction = archive.Internal
	}
	return v
}

// routeOf says where a recipient's mail goes now, as the envelope keeps it.
func routeOf(r directory.Recipient) string {
	switch route.For(r) {
	case route.NotOurs:
		return archive.RouteInternet
	case route.Portal:
		return archive.RoutePortal
	default:
		return archive.RoutePrimary
	}
}

// add counts a party in if it is covered.
func (v *verdict) add(r directory.Recipient) {
	if !r.Covered {
		return
	}
	v.covered = true
	name := r.Address.String()
	if r.Mailbox != nil {
		name = r.Mailbox.Address
	}
	if !slices.Contains(v.mailboxes, name) {
		v.mailboxes = append(v.mailboxes, name)
	}
}

// ownSender says which of ours sends a message, if it is one of ours: the
// mailbox that logged in, or the envelope sender when the client is a server
// of that sender's domain, by its network or its outbound account. What a stranger writes into MAIL FROM counts for
// nothing.
func ownSender(dir *directory.Directory, from origin) (directory.Recipient, bool) {
	if from.login != "" {
		if a, err := address.Parse(from.sender); err == nil && dir.AccountMaySend(from.login, a) {
			return dir.Recipient(a), true
		}
		if a, err := address.Parse(from.login); err == nil {
			if r := dir.Recipient(a); r.Registered {
				return r, true
			}
		}
	}
	ip, err := netip.ParseAddr(strings.TrimPrefix(from.client, "IPv6:"))
	if err != nil {
		return directory.Recipient{}, false
	}
	a, err := address.Parse(from.sender)
	if err != nil || !dir.MayRelay(ip, a) {
		return directory.Recipient{}, false
	}
	return dir.Recipient(a), true
}
