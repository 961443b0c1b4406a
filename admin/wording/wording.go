// Package wording says in plain words what a domain's mode means: the same
// ones on the website and on the command line, for a person who was woken at
// three in the morning. Times are UTC.
package wording

import (
	"fmt"
	"strings"
	"time"

	"understudy/internal/directory"
	"understudy/internal/store"
)

// Mode says where a domain's mail goes, since when and why. The timeline is
// newest first.
func Mode(d *directory.Domain, timeline []store.ModeChange) string {
	to := "its own mail server"
	if d.Mode == directory.Emergency {
		to = "the portal"
	}
	c := last(d, timeline)
	if c == nil {
		return fmt.Sprintf("Mail for %s goes to %s. It has been so since the domain was added.", d.Name, to)
	}
	text := fmt.Sprintf("Mail for %s goes to %s since %s%s", d.Name, to, Since(d.ModeSince), because(c))
	if d.Mode != directory.Emergency {
		return text
	}
	if d.ModeManual {
		return text + " It stays so until a person switches back."
	}
	return text + " It goes back by itself when the mail server has been well for a while."
}

// last is the change that brought the present mode.
func last(d *directory.Domain, timeline []store.ModeChange) *store.ModeChange {
	for i := range timeline {
		if c := &timeline[i]; !c.Observed && c.To == d.Mode {
			return c
		}
	}
	return nil
}

func because(c *store.ModeChange) string {
	reason := strings.TrimRight(strings.TrimSpace(c.Reason), ".")
	who := c.Actor + " switched"
	if !c.Manual {
		who = "it was detected"
	}
	if reason == "" {
		return ", switched by " + c.Actor + "."
	}
	if c.Manual {
		return fmt.Sprintf(", because %s it: %s.", who, reason)
	}
	return fmt.Sprintf(", because %s: %s.", who, reason)
}

// Change is one line of the timeline, without its time.
func Change(c *store.ModeChange) string {
	by := "by " + c.Actor
	if c.Observed {
		by = "only observed: would have switched"
	}
	text := fmt.Sprintf("%s to %s, %s", c.From, c.To, by)
	if c.Reason != "" {
		text += ": " + c.Reason
	}
	return text
}

// Since writes a time: its hour when it is of today, else its day as well.
func Since(t time.Time) string { return since(t, time.Now()) }

func since(t, now time.Time) string {
	t, now = t.UTC(), now.UTC()
	if t.Year() == now.Year() && t.YearDay() == now.YearDay() {
		return t.Format("15:04 UTC")
	}
	return t.Format("2 January 2006, 15:04 UTC")
}

// Consequence says what a switch to a mode sets going.
func Consequence(to directory.Mode) string {
	if to == directory.Emergency {
		return "New mail for registered mailboxes goes to the portal at once; deferred mail follows within a minute. It stays so until a person switches back."
	}
	return "New mail goes to the domain's own server again; what is still in the portal's INBOXes is sent there, oldest first."
}

// Steps says, before a switch, what will happen to whom.
func Steps(d *directory.Domain, to directory.Mode) []string {
	who, others := "every registered mailbox", "Mail for addresses that are not registered is refused (550), so that senders know."
	if d.Scope == directory.ScopeSelected {
		who = "the registered mailboxes that are covered"
		others = "Mail for mailboxes that are not covered waits for the domain's own server, here or with its senders."
	}
	if to == directory.Normal {
		return []string{
			"New mail goes to " + strings.Join(d.Primaries, ", ") + " again, at once.",
			"What is still in the portal's INBOXes is sent there, oldest first, and removed from the portal. What people moved or deleted stays as they left it.",
			"Mail that Postfix holds back for the domain is tried again.",
			"If the server is still down, mail waits in the queue" + orFallsBack(d) + ".",
		}
	}
	return []string{
		"New mail for " + who + " goes to the portal at once; people read and answer it there.",
		others,
		"Mail that Postfix holds back for the domain goes to the portal too, within a minute.",
		"The emergency lasts until a person ends it: it does not end by itself.",
	}
}

func orFallsBack(d *directory.Domain) string {
	if d.Activation == directory.Automatic {
		return " or, for registered mailboxes, falls back to the portal message by message; the domain may switch to emergency by itself"
	}
	return ""
}

// Health says in plain words what a probe of a primary means.
func Health(class string) string {
	if text, ok := healthWords[class]; ok {
		return text
	}
	return class
}

var healthWords = map[string]string{
	"healthy":           "Answers and accepts mail.",
	"unreachable":       "Cannot be reached: no address, connection refused or lost.",
	"timeout":           "Does not answer in time.",
	"tls":               "Offers encryption, but it does not work.",
	"server-tempfail":   "Answers, but says that it cannot take mail now.",
	"server-reject":     "Answers, but refuses us.",
	"recipient-defer":   "Takes mail, but put off a recipient (greylisting, full mailbox).",
	"recipient-refused": "Takes mail, but refused recipients.",
	"fallback":          "A delivery failed and fell back to the portal.",
}

// Own says to a mailbox owner where the mail is.
func Own(m *store.MailboxStatus) string {
	switch {
	case m.Mode == directory.Normal:
		return "Your mail is delivered to your usual mail server. There is nothing to do here."
	case !m.Covered:
		return fmt.Sprintf("The mail server of %s has trouble since %s. Your mail waits and is delivered when it is back.", m.Domain, Since(m.ModeSince))
	}
	return fmt.Sprintf("The mail server of %s has trouble since %s. New mail is here, in the standby mailbox: read and answer it as told below. What is still in your inbox afterwards is sent to your usual mailbox.", m.Domain, Since(m.ModeSince))
}
