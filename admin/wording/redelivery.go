package wording

import (
	"fmt"

	"understudy/internal/directory"
	"understudy/internal/store"
)

// Redelivery says what goes where when archived messages are delivered again
// now.
func Redelivery(p *store.RedeliveryPlan) []string {
	var out []string
	for _, t := range p.Targets {
		whose, messages := t.Mailbox, "1 message"
		if t.Messages > 1 {
			messages = fmt.Sprintf("%d messages", t.Messages)
		}
		if t.Mailboxes > 1 { // one message may go to several
			whose, messages = fmt.Sprintf("%d mailboxes of %s", t.Mailboxes, t.Domain), fmt.Sprintf("%d copies", t.Messages)
		}
		place := "on the domain’s own mail server, which is active now"
		switch t.Mode {
		case string(directory.Emergency):
			place = "in the standby portal, because the domain is in emergency now"
		case "":
			place = "nowhere: the domain is not here any more"
		}
		out = append(out, fmt.Sprintf("%s to %s, %s.", messages, whose, place))
	}
	return out
}
