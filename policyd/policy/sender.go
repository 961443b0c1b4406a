package policy

import (
	"fmt"
	"net/netip"
	"time"

	"understudy/internal/directory"
	"understudy/policyd/limit"
	"understudy/policyd/recipient"
)

// charged says whose limit a recipient counts against that the decision d
// takes, and which limit that is. Inbound mail has none.
func charged(req Request, d Decision, dir *directory.Directory, rates *limit.Config) (limit.Key, limit.Rate, bool) {
	switch {
	case req.Context == ContextRelay && d.Action == permitRelay.Action:
		return chargedNetwork(req, dir, rates)
	case req.Context == ContextSubmission && req.Login != "" && (d.Action == dunno.Action || d.Action == askPrimary.Action):
		return chargedLogin(req.Login, dir, rates)
	}
	return limit.Key{}, limit.Rate{}, false
}

// chargedNetwork is for a customer's server, known by its address: the domain
// of the sender, or for bounces the first of those that send from there.
func chargedNetwork(req Request, dir *directory.Directory, rates *limit.Config) (limit.Key, limit.Rate, bool) {
	dom := recipient.FindUnquoted(dir, req.Sender).Domain
	if ip, err := netip.ParseAddr(req.ClientAddress); err == nil && dom == nil {
		if all := dir.OutboundDomains(ip.Unmap().WithZone("")); len(all) > 0 {
			dom = all[0]
		}
	}
	if dom == nil {
		return limit.Key{}, limit.Rate{}, false
	}
	own := dir.SendLimit(dom.ID)
	return limit.Key{Kind: limit.Network, ID: dom.ID}, rates.Network.Own(own.NetworkPerHour, own.NetworkPerDay), true
}

// chargedLogin is for who signed in: an outbound account or a mailbox.
func chargedLogin(login string, dir *directory.Directory, rates *limit.Config) (limit.Key, limit.Rate, bool) {
	if x := dir.OutboundAccount(login); x != nil {
		return limit.Key{Kind: limit.Account, ID: x.ID}, rates.Account.Own(x.PerHour, x.PerDay), true
	}
	m := recipient.Find(dir, login).Mailbox
	if m == nil {
		return limit.Key{}, limit.Rate{}, false
	}
	own := dir.SendLimit(m.DomainID)
	return limit.Key{Kind: limit.Mailbox, ID: m.ID}, rates.Mailbox.Own(own.MailboxPerHour, own.MailboxPerDay), true
}

// overLimit is the decision for a recipient that its sender's limit refuses.
func overLimit(kind limit.Kind, a limit.Answer, r limit.Rate) Decision {
	if a.DayOver {
		return Decision{Label: "over-day-" + string(kind),
			Action: fmt.Sprintf("550 5.7.1 Daily sending limit of %d recipients reached; it ends in %s", r.PerDay, inWords(a.Wait))}
	}
	return Decision{Label: "over-hour-" + string(kind),
		Action: fmt.Sprintf("450 4.7.1 Sending limit of %d recipients an hour reached; try again in %s", r.PerHour, inWords(a.Wait))}
}

// inWords rounds up: who comes back then is let in.
func inWords(d time.Duration) string {
	n, unit := (d+time.Minute-1)/time.Minute, "minute"
	if n > 120 {
		n, unit = (d+time.Hour-1)/time.Hour, "hour"
	}
	if n <= 1 {
		return "1 " + unit
	}
	return fmt.Sprintf("%d %ss", n, unit)
}
