package failover

import (
	"context"
	"fmt"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"understudy/internal/bench/rig"
	"understudy/internal/stack"
	"understudy/internal/wait"
)

// inbox is the reader's INBOX, open by IMAP.
type inbox struct {
	c    *imapclient.Client
	sent int
}

func openInbox(s *stack.Stack) (*inbox, error) {
	c, err := imapclient.DialInsecure(s.Info.IMAP, nil) // loopback
	if err != nil {
		return nil, err
	}
	b := &inbox{c: c}
	for _, m := range s.Info.Mailboxes {
		if m.Address != reader {
			continue
		}
		if err := c.Login(m.Address, m.Password).Wait(); err != nil {
			c.Close()
			return nil, fmt.Errorf("log in as %s: %w", reader, err)
		}
		if _, err := c.Select("INBOX", nil).Wait(); err != nil {
			c.Close()
			return nil, fmt.Errorf("open INBOX: %w", err)
		}
		return b, nil
	}
	c.Close()
	return nil, fmt.Errorf("%s is no mailbox of the stack", reader)
}

func (b *inbox) close() { b.c.Close() }

// subjects are those of the messages that are there and begin with prefix.
func (b *inbox) subjects(prefix string) (map[string]bool, error) {
	found, err := b.c.UIDSearch(&imap.SearchCriteria{Header: []imap.SearchCriteriaHeaderField{{Key: "Subject", Value: prefix}}}, nil).Wait()
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	if len(found.AllUIDs()) == 0 {
		return out, nil
	}
	messages, err := b.c.Fetch(imap.UIDSetNum(found.AllUIDs()...), &imap.FetchOptions{Envelope: true}).Collect()
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		out[m.Envelope.Subject] = true
	}
	return out, nil
}

// send sends n messages, a pace apart, and returns how long each took from
// its acceptance until it could be read.
func (r *run) send(ctx context.Context, n int, pace time.Duration) ([]time.Duration, error) {
	b := r.inbox
	b.sent++
	prefix := fmt.Sprintf("series-%d-", b.sent)
	accepted := map[string]time.Time{}
	var took []time.Duration
	begin, next := time.Now(), 0
	err := wait.For(ctx, time.Duration(n)*pace+2*time.Minute, rig.Poll, func() error {
		for next < n && time.Since(begin) >= time.Duration(next)*pace {
			token := fmt.Sprintf("%s%d-", prefix, next)
			at, err := rig.Send(r.stack.Info.SMTP, reader, token)
			if err != nil {
				return wait.Never(fmt.Errorf("message %d: %w", next, err))
			}
			accepted[token], next = at, next+1
		}
		there, err := b.subjects(prefix)
		if err != nil {
			return wait.Never(err)
		}
		for token := range there {
			if at, ok := accepted[token]; ok {
				took = append(took, time.Since(at))
				delete(accepted, token)
			}
		}
		if len(took) < n {
			return fmt.Errorf("%d of %d messages can be read", len(took), n)
		}
		return nil
	})
	return took, err
}
