package cli

import (
	"understudy/internal/store"
)

type aliasCmd struct {
	Add    aliasAdd    `cmd:"" help:"Give a mailbox another address."`
	List   aliasList   `cmd:"" help:"List aliases."`
	Remove aliasRemove `cmd:"" help:"Remove an alias."`
}

type aliasAdd struct {
	Alias   string `arg:"" help:"The other address."`
	Address string `arg:"" help:"The mailbox."`
}

// Run adds an alias.
func (c *aliasAdd) Run(e *env) error {
	alias, err := mailboxAddress(c.Alias)
	if err != nil {
		return err
	}
	addr, err := mailboxAddress(c.Address)
	if err != nil {
		return err
	}
	s, err := e.open()
	if err != nil {
		return err
	}
	if err := s.AddAlias(e.ctx, alias, addr); err != nil {
		return err
	}
	return e.done("added, an alias of "+addr, alias)
}

type aliasList struct {
	Domain string `arg:"" optional:"" help:"Only of this domain."`
}

// Run lists aliases.
func (c *aliasList) Run(e *env) error {
	domain := ""
	if c.Domain != "" {
		var err error
		if domain, err = domainName(c.Domain); err != nil {
			return err
		}
	}
	s, err := e.open()
	if err != nil {
		return err
	}
	list, err := s.Aliases(e.ctx, store.Everything, domain)
	if err != nil {
		return err
	}
	rows := make([]string, len(list))
	for i, a := range list {
		rows[i] = a.Address + "\t" + a.Mailbox
	}
	return e.table(list, "ALIAS\tMAILBOX", rows)
}

type aliasRemove struct {
	Alias string `arg:"" help:"The other address."`
}

// Run removes an alias.
func (c *aliasRemove) Run(e *env) error {
	alias, err := mailboxAddress(c.Alias)
	if err != nil {
		return err
	}
	s, err := e.open()
	if err != nil {
		return err
	}
	if err := s.RemoveAlias(e.ctx, alias); err != nil {
		return err
	}
	return e.done("removed", alias)
}
