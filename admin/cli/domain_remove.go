package cli

import (
	"fmt"

	"understudy/internal/directory"
	"understudy/internal/store"
)

type domainRemove struct {
	Name string `arg:"" help:"Domain."`
	Yes  bool   `help:"Do it; without, only say what would go."`
}

// Run removes a domain, or says what that would delete.
func (c *domainRemove) Run(e *env) error {
	name, err := domainName(c.Name)
	if err != nil {
		return err
	}
	s, err := e.open()
	if err != nil {
		return err
	}
	d, err := s.Domain(e.ctx, store.Everything, name)
	if err != nil {
		return err
	}
	gone, err := s.DomainContents(e.ctx, name)
	if err != nil {
		return err
	}
	back, err := s.DrainState(e.ctx, name, 0)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("%d mailboxes, %d aliases, %d timeline entries, and %d accounts' access", gone.Mailboxes, gone.Aliases, gone.Timeline, gone.Admins)
	if !c.Yes {
		return fmt.Errorf("this would delete %s with %s, and refuse its mail (the archive stays until it expires). "+
			"What Postfix has queued for it comes back to its senders, unless its MX is elsewhere by then: see postqueue -p first%s; add --yes to do it", name, what, inPortal(d, &back.Counts))
	}
	if err := s.RemoveDomain(e.ctx, name); err != nil {
		return err
	}
	return e.print(struct {
		Removed string `json:"removed"`
		*store.DomainContents
	}{name, gone}, "%s: removed, with %s", name, what)
}

// inPortal warns of mail that nobody would return to the domain's mail server.
func inPortal(d *store.Domain, back *store.LedgerCounts) string {
	open := back.Sending + back.Held
	switch {
	case d.Mode == directory.Emergency:
		return ". It is in emergency: what lies in its portal mailboxes would not be returned to its mail server"
	case open > 0:
		return fmt.Sprintf(". %d messages in its portal mailboxes would not be returned to its mail server", open)
	}
	return ""
}
