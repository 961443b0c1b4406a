package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"understudy/admin/wording"
	"understudy/internal/query"
	"understudy/internal/store"
)

const (
	pollEvery = 500 * time.Millisecond
	planLimit = 10_000 // messages that --dry-run counts
)

type archiveRedeliver struct {
	ID      []string `arg:"" optional:"" help:"Messages, by their ids."`
	Query   string   `help:"In place of ids: all that this search finds." placeholder:"Q"`
	Mailbox string   `help:"Only to this mailbox, of all that have the message." placeholder:"ADDRESS"`
	DryRun  bool     `help:"Only say how many there are, and where they would go now." xor:"wait"`
	Wait    bool     `help:"Wait until all are delivered, and show how far it is." xor:"wait"`
}

// Run enters a redelivery, which the worker carries out.
func (c *archiveRedeliver) Run(e *env) error {
	n, err := c.order()
	if err != nil {
		return err
	}
	s, err := e.openUnbounded()
	if err != nil {
		return err
	}
	if c.DryRun {
		return c.plan(e, s, n)
	}
	r, err := s.Redeliver(e.ctx, n)
	if err != nil {
		return c.wrong(err)
	}
	if !c.Wait {
		return e.print(r, "redelivery %d is under way; the website shows how far it is", r.ID)
	}
	if r, err = c.wait(e, s, r.ID); err != nil {
		return err
	}
	if err := e.print(r, "redelivery %d: %d of %d delivered, %d failed", r.ID, r.Done, r.Total, r.Failed); err != nil || r.Failed == 0 {
		return err
	}
	return c.failures(e, s, r)
}

// order checks the command line.
func (c *archiveRedeliver) order() (n store.NewRedelivery, err error) {
	n = store.NewRedelivery{Actor: actor(), Access: store.Access{All: true}, Query: c.Query, Record: true}
	if (len(c.ID) == 0) == (c.Query == "") {
		return n, usage("give ids of messages, or --query; to deliver everything again use --query 'after:10y'")
	}
	for _, text := range c.ID {
		id, err := uuid.Parse(text)
		if err != nil {
			return n, usage("%q is no message id", text)
		}
		n.Messages = append(n.Messages, id)
	}
	if c.Mailbox != "" {
		if n.Mailbox, err = mailboxAddress(c.Mailbox); err != nil {
			return n, err
		}
	}
	return n, c.wrong((&store.MessageFilter{}).Ask(c.Query))
}

// wrong points at the place of a mistake in the query.
func (c *archiveRedeliver) wrong(err error) error {
	var at *query.Error
	if errors.As(err, &at) {
		return usage("the query:\n%s", at.Caret(c.Query))
	}
	return err
}

func (c *archiveRedeliver) plan(e *env, s *store.Store, n store.NewRedelivery) error {
	p, err := s.PlanRedelivery(e.ctx, n, planLimit)
	if err != nil {
		return err
	}
	more := ""
	if p.More {
		more = " or more"
	}
	text := fmt.Sprintf("%d%s messages found", p.Messages, more)
	for _, step := range wording.Redelivery(p) {
		text += "\n  " + step
	}
	return e.print(p, "%s", text)
}

// wait follows a redelivery to its end.
func (c *archiveRedeliver) wait(e *env, s *store.Store, id int64) (*store.Redelivery, error) {
	bar := e.bar(-1, "delivering again", false)
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		r, err := s.Redelivery(e.ctx, id)
		if err != nil {
			return nil, err
		}
		if r.State != store.RedeliveryCollecting {
			bar.ChangeMax64(max(1, r.Total))
			bar.Set64(r.Done + r.Failed) //nolint:errcheck // only a picture
		}
		if r.State == store.RedeliveryDone {
			return r, bar.Finish()
		}
		select {
		case <-tick.C:
		case <-e.ctx.Done():
			return nil, fmt.Errorf("not waiting any longer; redelivery %d goes on: %w", id, e.ctx.Err())
		}
	}
}

func (c *archiveRedeliver) failures(e *env, s *store.Store, r *store.Redelivery) error {
	items, err := s.FailedItems(e.ctx, r.ID, 20)
	if err != nil {
		return err
	}
	for _, i := range items {
		e.progress("%s to %s: %s", i.Message, i.Mailbox, oneLine(i.Reply))
	}
	return fmt.Errorf("%d messages could not be delivered", r.Failed)
}
