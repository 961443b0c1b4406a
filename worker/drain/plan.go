package drain

import (
	"context"
	"strings"
	"time"

	"understudy/internal/directory"
	"understudy/internal/portal"
	"understudy/internal/store"
)

// plan is what is to be done in one INBOX.
type plan struct {
	remove []portal.Entry // the primary has them
	send   []portal.Entry // oldest first
	rest   int            // how many are not to be sent again yet
}

const (
	// lostReply begins what the ledger keeps of an attempt that ended while the
	// reply to the final dot was awaited: the primary may have the message.
	lostReply = "no reply to the whole message, which may have arrived: "
	// maxRest is the longest pause of such a message, about Postfix's own
	// (maximal_backoff_time).
	maxRest = time.Hour
)

// rests reports whether a message has to wait because the primary took it more
// than once without a word: each attempt may leave a copy there. The pauses
// double.
func rests(e store.LedgerEntry, now time.Time) bool {
	return e.State == store.Sending && e.Attempts > 1 && strings.HasPrefix(e.Reply, lostReply) &&
		now.Sub(e.UpdatedAt) < min(maxRest, e.UpdatedAt.Sub(e.FirstAt))
}

// plan compares an INBOX with the ledger.
func (r *run) plan(ctx context.Context, m *directory.Mailbox, l portal.Listing) (plan, error) {
	var p plan
	ledger, err := r.Ledger.LedgerOf(ctx, r.Gateway, m.Address)
	if err != nil {
		return p, err
	}
	present := make([]string, 0, len(l.Entries))
	var held, deleted int
	for _, e := range l.Entries {
		present = append(present, e.GUID)
		switch state := ledger[e.GUID].State; {
		case state == store.Sent:
			p.remove = append(p.remove, e)
		case state == store.Done:
			// Its owner kept a copy and put it back: the primary has it.
		case e.Deleted:
			deleted++
		case state == store.Held:
			held++
		case rests(ledger[e.GUID], time.Now()):
			p.rest++
			r.trouble()
		default:
			p.send = append(p.send, e)
		}
		delete(ledger, e.GUID)
	}
	r.count(func(s *Summary) { s.Held += held; s.Deleted += deleted })
	for _, rest := range ledger {
		if rest.State != store.Done {
			return p, r.Ledger.Settle(ctx, r.Gateway, m.Address, present)
		}
	}
	return p, nil
}
