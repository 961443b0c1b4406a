package cli

import (
	"fmt"
	"strings"
)

type holdCmd struct {
	Add    holdAdd    `cmd:"" help:"Keep the archive of a domain or a mailbox from expiring."`
	List   holdList   `cmd:"" help:"List legal holds."`
	Remove holdRemove `cmd:"" help:"End a hold: what is past its retention expires."`
}

type holdAdd struct {
	Target string `arg:"" help:"Domain, or a mailbox by its own address."`
	Reason string `required:"" help:"Why; it is kept."`
	By     string `placeholder:"NAME" help:"Who; default: who runs the command."`
	Force  bool   `help:"Also an address that is an alias, or that nothing is known of."`
}

// Run sets a hold.
func (c *holdAdd) Run(e *env) error {
	target, err := holdTarget(c.Target)
	if err != nil {
		return err
	}
	s, err := e.open()
	if err != nil {
		return err
	}
	if !c.Force {
		if err := s.CheckHold(e.ctx, target); err != nil {
			return fmt.Errorf("%w (--force holds it all the same)", err)
		}
	}
	if err := s.AddHold(e.ctx, target, by(c.By), c.Reason); err != nil {
		return err
	}
	return e.done("held", target)
}

type holdList struct {
	All bool `help:"Also those that have ended."`
}

// Run lists holds.
func (c *holdList) Run(e *env) error {
	s, err := e.open()
	if err != nil {
		return err
	}
	holds, err := s.Holds(e.ctx, c.All)
	if err != nil {
		return err
	}
	rows := make([]string, len(holds))
	for i, h := range holds {
		target, ended := h.Domain, "-"
		if h.Mailbox != "" {
			target = h.Mailbox
		}
		if h.Ended != nil {
			ended = stamp(*h.Ended) + " by " + oneLine(h.EndedBy)
		}
		rows[i] = fmt.Sprintf("%s\t%s\t%s\t%s\t%s", target, stamp(h.Since), oneLine(h.Actor), ended, oneLine(h.Reason))
	}
	return e.table(holds, "HELD\tSINCE\tBY\tENDED\tREASON", rows)
}

type holdRemove struct {
	Target string `arg:"" help:"Domain, or address of a mailbox."`
	By     string `placeholder:"NAME" help:"Who; default: who runs the command."`
}

// Run ends a hold.
func (c *holdRemove) Run(e *env) error {
	target, err := holdTarget(c.Target)
	if err != nil {
		return err
	}
	s, err := e.open()
	if err != nil {
		return err
	}
	if err := s.EndHold(e.ctx, target, by(c.By)); err != nil {
		return err
	}
	return e.done("no longer held", target)
}

func holdTarget(s string) (string, error) {
	if strings.Contains(s, "@") {
		return mailboxAddress(s)
	}
	return domainName(s)
}

// by is the name given, or who runs the command.
func by(name string) string {
	if name != "" {
		return name
	}
	return actor()
}
