package cli

import (
	"fmt"
	"strings"

	"understudy/internal/directory"
	"understudy/internal/store"
)

const heldLines = 200

type drainCmd struct {
	Domain string `arg:"" help:"Domain."`
	Action string `arg:"" optional:"" help:"status (the default), or retry: send the held messages again."`
}

// Run shows a domain's drain or retries what the primary refused.
func (c *drainCmd) Run(e *env) error {
	name, err := domainName(c.Domain)
	if err != nil {
		return err
	}
	if c.Action != "" && c.Action != "status" && c.Action != "retry" {
		return usage("%q; it is status or retry", c.Action)
	}
	s, err := e.open()
	if err != nil {
		return err
	}
	d, err := s.Domain(e.ctx, store.Everything, name)
	if err != nil {
		return err
	}
	if c.Action == "retry" {
		return c.retry(e, s, d)
	}
	state, err := s.DrainState(e.ctx, name, heldLines)
	if err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d returned, %d being sent, %d held", name, state.Counts.Sent+state.Counts.Done, state.Counts.Sending, state.Counts.Held)
	if state.Running {
		b.WriteString("; a drain is under way")
	}
	for _, m := range state.Messages {
		fmt.Fprintf(&b, "\n  %s  %s  %d bytes: %s", stamp(m.UpdatedAt), m.Mailbox, m.Size, oneLine(m.Reply))
	}
	return e.print(state, "%s", b.String())
}

func (c *drainCmd) retry(e *env, s *store.Store, d *store.Domain) error {
	if d.Mode == directory.Emergency {
		return fmt.Errorf("%s is in emergency: its mail stays in the portal until the domain is back to normal", d.Name)
	}
	again, err := s.Retry(e.ctx, d.Name)
	if err != nil {
		return err
	}
	return e.print(map[string]any{"domain": d.Name, "retried": again}, "%s: %d held messages are tried again", d.Name, again)
}
