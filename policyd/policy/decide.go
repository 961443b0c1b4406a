package policy

import (
	"net/netip"
	"strings"

	"understudy/internal/directory"
	"understudy/internal/evidence"
	"understudy/policyd/recipient"
)

// Decision is the answer to one request.
//
// Postfix writes "<recipient>: Recipient address rejected: " between the
// status code and our text (access(5)), so the text does not name the
// recipient again.
type Decision struct {
	Action   string          // of access(5)
	Label    string          // the kind of answer, for metrics
	Evidence *evidence.Event // what the request itself says of a primary; nil: nothing
}

// Every answer there is, but for the one that names the sender.
var (
	dunno       = Decision{Action: "DUNNO", Label: "dunno"}
	permitRelay = Decision{Action: "OK", Label: "permit-relay"}
	// askPrimary lets Postfix ask the primary, which alone knows who exists.
	askPrimary  = Decision{Action: "reject_unverified_recipient", Label: "ask-primary"}
	unknownUser = Decision{Action: "550 5.1.1 User unknown", Label: "unknown-user"}
	// senderKeeps: nobody can say now whether the recipient exists.
	senderKeeps = Decision{Action: "450 4.4.1 The mail server of this domain does not answer; try again later", Label: "sender-keeps"}
	// queueKeeps is for re-entry, which must never bounce: the message stays in our queue for the primary.
	queueKeeps  = Decision{Action: "450 4.2.0 Kept for the mail server of this domain", Label: "queue-keeps"}
	notLoaded   = Decision{Action: "451 4.3.5 Directory not loaded; try again later", Label: "not-loaded"}
	wrongWiring = Decision{Action: "451 4.3.5 Server configuration error", Label: "wrong-context"}
)

// Decide answers a request. It looks at nothing but its arguments: failing
// says whether a domain's primary is failing right now.
//
// The null sender and postmaster@ or abuse@ of our domains follow the same
// rules as all: bounces go where the mailbox is, and while the primary works
// it is asked about postmaster like about anyone. For an emergency,
// postmaster (RFC 5321 section 4.5.1) must be registered as a mailbox or
// alias; otherwise it is refused as unknown.
func Decide(req Request, dir *directory.Directory, failing func(*directory.Domain) bool) Decision {
	switch {
	case req.Context == ContextReentry:
		return atReentry(req, dir)
	case req.Context == ContextReentryQuiet:
		d := atReentry(req, dir)
		d.Evidence = nil
		return d
	case !dir.Loaded():
		return notLoaded
	case req.State != "RCPT":
		return dunno
	}
	switch req.Context {
	case "", ContextRecipient, ContextSubmission:
		return forRecipient(recipient.FindUnquoted(dir, req.Recipient), failing)
	case ContextRelay:
		return forRelay(req, dir)
	}
	return wrongWiring
}

// forRecipient decides whether we take mail for a recipient. In every case
// that it takes, package route knows where to go with it.
func forRecipient(r directory.Recipient, failing func(*directory.Domain) bool) Decision {
	switch {
	case r.Domain == nil:
		return dunno
	case r.Domain.Mode == directory.Emergency && r.Covered && r.Registered:
		return dunno // the portal takes it
	case r.Domain.Mode == directory.Emergency && r.Covered:
		return unknownUser // in an emergency the directory knows all who are covered
	case !failing(r.Domain):
		return askPrimary
	case r.Domain.Mode == directory.Normal && r.Registered && !r.Refused:
		return dunno // the fallback keeps it in the portal, or the queue keeps it
	}
	return senderKeeps
}

// forRelay decides whether a client may send to the world through us: the
// customer's own servers may, for the customer's own domains.
func forRelay(req Request, dir *directory.Directory) Decision {
	ip, err := netip.ParseAddr(req.ClientAddress)
	if err != nil { // "unknown" is what Postfix sends for no address
		return dunno
	}
	ip = ip.Unmap().WithZone("")
	if len(dir.OutboundDomains(ip)) == 0 {
		return dunno
	}
	sender := recipient.FindUnquoted(dir, req.Sender).Address
	// Customers' bounces have the null sender, which belongs to no domain.
	if req.Sender == "" || dir.MayRelay(ip, sender) {
		return permitRelay
	}
	if recipient.FindUnquoted(dir, req.Recipient).Domain != nil {
		return dunno // inbound mail, forwarded by a server we happen to know
	}
	return Decision{Action: "553 5.7.1 <" + printable(req.Sender) + ">: Sender address not owned by this client", Label: "not-owner"}
}

// atReentry decides whether the portal can keep a message that just failed
// at its primary. The request itself is evidence of the failure. A directory
// that is not loaded knows nobody, so that the message stays queued.
func atReentry(req Request, dir *directory.Directory) Decision {
	if req.State != "RCPT" {
		return dunno
	}
	r := recipient.FindUnquoted(dir, req.Recipient)
	d, class := queueKeeps, evidence.FallbackRefused
	if r.Domain != nil && r.Covered && r.Registered {
		d, class = dunno, evidence.Fallback
	}
	if r.Address.Domain == "" {
		return d
	}
	d.Evidence = &evidence.Event{Domain: r.Address.Domain, Class: class, Recipient: printable(req.Recipient)}
	return d
}

// maxPrintable bounds an address in a reply or an event: a longer one is cut.
const maxPrintable = 128

// printable makes text of the wire safe to show: printable ASCII, bounded.
func printable(s string) string {
	if len(s) > maxPrintable {
		s = s[:maxPrintable-3] + "..."
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}
