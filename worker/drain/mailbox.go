package drain

import (
	"bufio"
	"context"
	"errors"
	"strings"
	"time"

	"understudy/internal/address"
	"understudy/internal/delivery"
	"understudy/internal/directory"
	"understudy/internal/portal"
	"understudy/internal/store"
)

// mailbox drains one INBOX; done when nothing of it is left for another run.
// Its error is the ledger's; other trouble is noted.
func (r *run) mailbox(ctx context.Context, m *directory.Mailbox) (done bool, err error) {
	listing, err := r.Portal.List(ctx, m.Address)
	if err != nil {
		r.portalTrouble(m, err)
		return false, nil
	}
	p, err := r.plan(ctx, m, listing)
	if err != nil {
		return false, err
	}
	left := len(p.send) + p.rest
	defer func() { r.count(func(s *Summary) { s.Left += left }) }()
	if len(p.remove)+len(p.send) == 0 {
		return left == 0, nil
	}
	session, err := r.Portal.Open(ctx, m.Address, listing.UIDValidity)
	if err != nil {
		r.portalTrouble(m, err)
		return false, nil
	}
	defer session.Close()
	removed, err := r.removeSent(ctx, session, m, p.remove)
	if err != nil {
		return false, err
	}
	for _, e := range p.send {
		d := r.ready(ctx)
		if d == nil {
			return false, nil
		}
		next, err := r.message(ctx, session, d, m, e)
		if next == onward {
			left--
		}
		if err != nil || next == leave {
			return false, err
		}
	}
	return removed && left == 0, nil
}

func (r *run) portalTrouble(m *directory.Mailbox, err error) {
	r.Log.Warn("drain cannot open a portal mailbox now", "mailbox", m.Address, "error", err)
	r.trouble()
}

// removeSent finishes what an earlier run began; ok when nothing of it is left.
func (r *run) removeSent(ctx context.Context, s *portal.Session, m *directory.Mailbox, sent []portal.Entry) (ok bool, err error) {
	if len(sent) == 0 {
		return true, nil
	}
	var uids []uint32
	var guids []string
	for _, e := range sent {
		uids, guids = append(uids, e.UID), append(guids, e.GUID)
	}
	if err := s.Remove(ctx, uids...); err != nil {
		r.portalTrouble(m, err)
		return false, nil
	}
	r.count(func(s *Summary) { s.Returned += len(sent) })
	return true, record(ctx, func(ctx context.Context) error { return r.Ledger.MarkDone(ctx, r.Gateway, m.Address, guids...) })
}

// step is what follows a message.
type step int

const (
	onward step = iota // the message is dealt with: the next one
	stay               // the message stays for another run: the next one
	leave              // the message stays, and so does the rest of this INBOX
)

// message returns one message.
func (r *run) message(ctx context.Context, s *portal.Session, d *directory.Domain, m *directory.Mailbox, e portal.Entry) (step, error) {
	began := time.Now()
	key := r.key(m, e)
	var result delivery.Result
	var begun bool
	var ledgerErr error
	fetch, cancel := context.WithTimeout(ctx, r.Worker.Config.Timeout)
	defer cancel()
	err := s.Fetch(fetch, e.UID, func(body *bufio.Reader) error {
		message := r.envelope(m, e, body)
		if begun, ledgerErr = r.begin(ctx, key, e); !begun {
			return ledgerErr
		}
		result = r.Delivery.Deliver(fetch, d.Primaries, message)[0]
		return nil
	})
	switch {
	case ledgerErr != nil:
		return leave, ledgerErr
	case begun: // what the primary said counts, whatever became of the rest of the fetch
		next, err := r.judge(ctx, s, m, e, result)
		r.metrics.seconds.Observe(time.Since(began).Seconds())
		return next, err
	case errors.Is(err, portal.ErrGone), err == nil:
		return onward, nil
	default:
		r.portalTrouble(m, err)
		return leave, nil
	}
}

// key is a message's in the ledger.
func (r *run) key(m *directory.Mailbox, e portal.Entry) store.LedgerKey {
	return store.LedgerKey{Gateway: r.Gateway, Mailbox: m.Address, GUID: e.GUID}
}

// envelope restores a message's envelope. Without our stamp it is the owner's
// own, without a sender. A stamp for somebody else is not believed (or its
// alias has gone): the message never goes to another than the owner.
func (r *run) envelope(m *directory.Mailbox, e portal.Entry, body *bufio.Reader) delivery.Message {
	stamp, n := portal.Unstamp(body)
	to, err := address.Parse(stamp.Recipient)
	if owner := r.Directory.Recipient(to).Mailbox; n == 0 || err != nil || owner == nil || owner.ID != m.ID {
		stamp.Recipient = m.Address
	}
	return delivery.Message{Sender: stamp.Sender, Recipients: []string{stamp.Recipient}, Body: body, Size: e.Size - int64(n)}
}

// begin enters a message in the ledger; false when it must not be sent.
func (r *run) begin(ctx context.Context, key store.LedgerKey, e portal.Entry) (bool, error) {
	before, err := r.Ledger.Begin(ctx, key, r.domain, e.Size)
	if err != nil || before.State != "" && before.State != store.Sending {
		return false, err
	}
	if before.State == store.Sending && (before.Reply == "" || strings.HasPrefix(before.Reply, lostReply)) {
		r.metrics.uncertain.Inc()
		r.Log.Warn("message is sent again: the outcome of its last attempt is unknown", "mailbox", key.Mailbox, "guid", key.GUID)
	}
	return true, nil
}

// judge records what the primary said of a message and acts on it.
func (r *run) judge(ctx context.Context, s *portal.Session, m *directory.Mailbox, e portal.Entry, result delivery.Result) (step, error) {
	key, log := r.key(m, e), r.Log.With("mailbox", m.Address, "guid", e.GUID)
	failure := result.Err
	switch {
	case failure == nil:
		r.decided()
		if err := record(ctx, func(ctx context.Context) error { return r.Ledger.MarkSent(ctx, key, result.Reply) }); err != nil {
			return leave, err
		}
		return r.finish(ctx, s, m, e)
	case !failure.Temporary:
		r.decided()
		r.metrics.messages.WithLabelValues("held").Inc()
		r.count(func(s *Summary) { s.Held++ })
		log.Warn("primary refuses a message: it is held", "host", failure.Host, "reply", failure.Reply(), "stage", failure.Stage)
		return onward, record(ctx, func(ctx context.Context) error { return r.Ledger.Hold(ctx, key, failure.Reply()) })
	}
	r.metrics.messages.WithLabelValues("deferred").Inc()
	log.Info("primary does not take a message now", "error", failure)
	reply := failure.Reply()
	if failure.Unknown {
		reply = lostReply + reply
	}
	err := record(ctx, func(ctx context.Context) error { return r.Ledger.Failed(ctx, key, reply) })
	switch {
	case failure.ServerWide():
		r.stop()
		return leave, err
	case failure.Stage == delivery.StageSource:
		r.trouble()
		return leave, err
	}
	r.refused()
	if failure.Stage == delivery.StageMail || failure.Stage == delivery.StageRcpt {
		return leave, err // the recipient's: the next message would meet the same
	}
	return stay, err
}

// finish removes a message that the primary has, even when the run is being
// cancelled.
func (r *run) finish(ctx context.Context, s *portal.Session, m *directory.Mailbox, e portal.Entry) (step, error) {
	r.metrics.messages.WithLabelValues("returned").Inc()
	r.metrics.bytes.Add(float64(e.Size))
	ctx = context.WithoutCancel(ctx)
	if err := s.Remove(ctx, e.UID); err != nil {
		r.portalTrouble(m, err)
		return leave, nil
	}
	r.count(func(s *Summary) { s.Returned++ })
	return onward, record(ctx, func(ctx context.Context) error { return r.Ledger.MarkDone(ctx, r.Gateway, m.Address, e.GUID) })
}
