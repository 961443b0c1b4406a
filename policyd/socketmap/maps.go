package socketmap

import (
	"log/slog"
	"strings"

	"understudy/internal/address"
	"understudy/internal/directory"
	"understudy/internal/route"
	"understudy/policyd/recipient"
	"understudy/policyd/session"
)

// Nobody owns the addresses of our domains that are not registered. It is a
// login that cannot be: logins are addresses, and have no '*' (package
// address).
const Nobody = "*nobody*"

// deliveryMaps is how the names of the maps that need no directory begin.
const deliveryMaps = "delivery_status_"

// reply is one answer: its status, its data, and its label in metrics.
type reply struct{ status, data, label string }

var (
	notFound   = reply{"NOTFOUND", "", "notfound"}
	notLoaded  = reply{"TEMP", "directory not loaded", "temp"}
	noPrimary  = reply{"TEMP", "domain without a usable primary", "temp"}
	tooLong    = reply{"TEMP", "reply too long", "temp"}
	unknownMap = reply{"PERM", "no such map", "perm"}
)

// Maps answers lookups from a directory.
type Maps struct {
	Directory       *directory.Directory
	PortalTransport string // transport:nexthop of the portal's LMTP
	Deliveries      *Deliveries
}

// NewServer returns a server that answers from m.
func NewServer(m *Maps, limit int, log *slog.Logger, metrics *session.Metrics) *session.Server[Query] {
	return &session.Server[Query]{Protocol: "socketmap", Max: limit, BufferBytes: bufferBytes,
		Read: Read, Answer: m.answer, Log: log, Metrics: metrics}
}

func (m *Maps) answer(q Query) session.Answer {
	lookup := m.lookup(q.Map)
	r := unknownMap
	switch {
	case lookup == nil:
		q.Map = "other"
	case !m.Directory.Loaded() && !strings.HasPrefix(q.Map, deliveryMaps):
		r = notLoaded
	default:
		r = lookup(q.Key)
	}
	text := r.status + " " + r.data
	if len(text) > maxReplyBytes {
		r, text = tooLong, tooLong.status+" "+tooLong.data
	}
	return session.Answer{Bytes: netstring(text), Question: q.Map, Label: r.label}
}

// lookup finds a map by its name, nil if there is none.
func (m *Maps) lookup(name string) func(key string) reply {
	switch name {
	case "transport":
		return m.transport
	case "relay_domains":
		return m.relayDomain
	case "probe":
		return m.probe
	case "sender_login":
		return m.senderLogin
	case deliveryMaps + "auto":
		return m.Deliveries.auto
	case deliveryMaps + "hold":
		return m.Deliveries.hold
	}
	return nil
}

// transport answers transport_maps: where mail for an address goes. Postfix
// asks for the full address as it was sent, and for "*" at start; a bare
// domain stands for an address that is not registered.
func (m *Maps) transport(key string) reply {
	r := m.find(key)
	where := route.For(r)
	switch where {
	case route.NotOurs:
		return reply{"NOTFOUND", "", where.String()}
	case route.Portal:
		return reply{"OK", m.PortalTransport, where.String()}
	}
	m.Deliveries.expect(r.Domain)
	name := "relay-hold:"
	if where == route.PrimaryAuto {
		name = "relay-auto:"
	}
	return toPrimary(name, r.Domain, where.String())
}

// relayDomain answers relay_domains: is this domain one of ours?
func (m *Maps) relayDomain(key string) reply {
	name, err := address.Domain(key)
	if err != nil {
		return notFound
	}
	if _, ok := m.Directory.Domain(name); !ok {
		return notFound
	}
	return reply{"OK", name, "ok"}
}

// probe answers address_verify_transport_maps: whom to ask whether an address
// exists. It is always the primary. For an address that the portal could keep,
// a primary that gives no verdict falls back to re-entry, which vouches for
// it: its mail is taken at once, whatever state the primary is in. Any other
// address, and one that the primary refused when the worker last asked, must never reach the fallback, or everybody would exist: without a
// verdict Postfix answers 450 and the sender keeps the mail, so that it can
// never bounce later.
func (m *Maps) probe(key string) reply {
	r := m.find(key)
	switch {
	case r.Domain == nil:
		return notFound
	case r.Covered && r.Registered && !r.Refused:
		return toPrimary("probe-auto:", r.Domain, "auto")
	}
	return toPrimary("probe:", r.Domain, "ok")
}

// senderLogin answers smtpd_sender_login_maps: which logins may use a sender
// address. A mailbox owns its address and its aliases, each with any
// "+detail"; an outbound account owns every address of its domains. An address
// of our domains that nobody owns belongs to Nobody, so that no signed-in
// user may take it. Other addresses are NOTFOUND; reject_sender_login_mismatch
// refuses these to signed-in users too. It never asks about the null sender,
// which bounces have and anybody may use.
func (m *Maps) senderLogin(key string) reply {
	r := m.find(key)
	if r.Domain == nil {
		return notFound
	}
	var logins []string
	// Postfix splits the value at commas and blanks: a part must not pass for another's login.
	if r.Registered && !strings.ContainsAny(r.Mailbox.Address, ", \t\r\n") {
		logins = append(logins, r.Mailbox.Address)
	}
	for _, x := range m.Directory.OutboundAccounts(r.Domain.ID) {
		if x.Enabled {
			logins = append(logins, x.Name)
		}
	}
	if len(logins) == 0 {
		return reply{"OK", Nobody, "nobody"}
	}
	return reply{"OK", strings.Join(logins, ","), "ok"}
}

// find looks up an address or a bare domain.
func (m *Maps) find(key string) directory.Recipient {
	if !strings.Contains(key, "@") {
		key = "@" + key
	}
	return recipient.Find(m.Directory, key)
}

// toPrimary names a transport with the domain's primaries. Without a next hop
// Postfix would look up the MX of the domain, which is this host.
func toPrimary(transport string, d *directory.Domain, label string) reply {
	hop := route.NextHop(d)
	if hop == "" {
		return noPrimary
	}
	return reply{"OK", transport + hop, label}
}
