package cli

import (
	"fmt"

	"understudy/internal/password"
	"understudy/internal/store"
)

type mailboxPassword struct {
	Address string `arg:"" help:"Address."`
	passwordFlags
}

// Run sets the main password of a mailbox.
func (c *mailboxPassword) Run(e *env) error {
	addr, err := mailboxAddress(c.Address)
	if err != nil {
		return err
	}
	plain, hash, err := c.required(e.in)
	if err != nil {
		return err
	}
	s, err := e.open()
	if err != nil {
		return err
	}
	if err := s.SetMailboxPassword(e.ctx, addr, hash); err != nil {
		return err
	}
	return e.printPassword(c.Generate, addr, plain, "password set")
}

type appPasswordCmd struct {
	Add    appPasswordAdd    `cmd:"" help:"Make an app password and print it once."`
	List   appPasswordList   `cmd:"" help:"List the app passwords of a mailbox."`
	Remove appPasswordRemove `cmd:"" help:"End an app password."`
}

type appPasswordAdd struct {
	Address string `arg:"" help:"Address."`
	Label   string `arg:"" help:"The device or program."`
}

// Run makes an app password.
func (c *appPasswordAdd) Run(e *env) error {
	addr, err := mailboxAddress(c.Address)
	if err != nil {
		return err
	}
	plain, hash, err := password.NewApp()
	if err != nil {
		return err
	}
	s, err := e.open()
	if err != nil {
		return err
	}
	if err := s.AddAppPassword(e.ctx, addr, c.Label, hash); err != nil {
		return err
	}
	return e.print(struct {
		Address  string `json:"address"`
		Label    string `json:"label"`
		Password string `json:"password"`
	}{addr, c.Label, plain}, "%s", plain)
}

type appPasswordList struct {
	Address string `arg:"" help:"Address."`
}

// Run lists app passwords: their labels, never themselves.
func (c *appPasswordList) Run(e *env) error {
	addr, err := mailboxAddress(c.Address)
	if err != nil {
		return err
	}
	s, err := e.open()
	if err != nil {
		return err
	}
	if _, err := s.Mailbox(e.ctx, store.Everything, addr); err != nil {
		return err
	}
	list, err := s.AppPasswords(e.ctx, addr)
	if err != nil {
		return err
	}
	rows := make([]string, len(list))
	for i, p := range list {
		rows[i] = fmt.Sprintf("%s\t%s", p.Label, stamp(p.CreatedAt))
	}
	return e.table(list, "LABEL\tSINCE", rows)
}

type appPasswordRemove struct {
	Address string `arg:"" help:"Address."`
	Label   string `arg:"" help:"The device or program."`
}

// Run ends an app password.
func (c *appPasswordRemove) Run(e *env) error {
	addr, err := mailboxAddress(c.Address)
	if err != nil {
		return err
	}
	s, err := e.open()
	if err != nil {
		return err
	}
	if err := s.RemoveAppPassword(e.ctx, addr, c.Label); err != nil {
		return err
	}
	return e.done("app password removed", addr+" "+c.Label)
}
