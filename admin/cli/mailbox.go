package cli

import (
	"fmt"
	"strconv"
	"strings"

	"understudy/internal/store"
)

type mailboxCmd struct {
	Add         mailboxAdd      `cmd:"" help:"Register a mailbox."`
	List        mailboxList     `cmd:"" help:"List mailboxes."`
	Set         mailboxSet      `cmd:"" help:"Change settings of a mailbox."`
	Remove      mailboxRemove   `cmd:"" help:"Remove a mailbox with its aliases and passwords."`
	Password    mailboxPassword `cmd:"" help:"Set the password of a mailbox."`
	AppPassword appPasswordCmd  `cmd:"" help:"Passwords of single devices and programs."`
	Import      mailboxImport   `cmd:"" help:"Register many mailboxes from a CSV file."`
}

type mailboxAdd struct {
	Address string `arg:"" help:"Address."`
	Name    string `help:"The person's name."`
	Covered bool   `negatable:"" default:"true" help:"Covered in a domain of scope selected (default yes)."`
	Quota   string `placeholder:"SIZE" help:"Size of the portal mailbox, such as 1G; without, the portal's default."`
	passwordFlags
}

// Run registers a mailbox.
func (c *mailboxAdd) Run(e *env) error {
	addr, err := mailboxAddress(c.Address)
	if err != nil {
		return err
	}
	quota, err := parseSize(c.Quota)
	if err != nil {
		return err
	}
	plain, hash, err := c.read(e.in)
	if err != nil {
		return err
	}
	s, err := e.open()
	if err != nil {
		return err
	}
	err = s.AddMailboxes(e.ctx, store.NewMailbox{Address: addr, Name: c.Name, Covered: c.Covered, QuotaBytes: quota, Hash: hash})
	if err != nil {
		return err
	}
	return e.printPassword(c.Generate, addr, plain, "added")
}

// printPassword confirms a command, with the password when we made it.
func (e *env) printPassword(generated bool, who, plain, verb string) error {
	if !generated {
		return e.done(verb, who)
	}
	return e.print(struct {
		done
		Password string `json:"password"`
	}{done{verb, who}, plain}, "%s: %s; the password is %s", who, verb, plain)
}

type mailboxList struct {
	Domain string `arg:"" optional:"" help:"Only of this domain."`
	Search string `help:"Part of an address, an alias or a name."`
}

// Run lists mailboxes, however many there are.
func (c *mailboxList) Run(e *env) error {
	s, err := e.open()
	if err != nil {
		return err
	}
	q := store.MailboxQuery{Search: c.Search, Limit: 1000}
	if c.Domain != "" {
		if q.Domain, err = domainName(c.Domain); err != nil {
			return err
		}
		if _, err := s.Domain(e.ctx, store.Everything, q.Domain); err != nil {
			return err
		}
	}
	all := []store.Mailbox{}
	for {
		page, err := s.Mailboxes(e.ctx, store.Everything, q)
		if err != nil {
			return err
		}
		all = append(all, page...)
		if len(page) < q.Limit {
			break
		}
		q.After = page[len(page)-1].Address
	}
	rows := make([]string, len(all))
	for i, m := range all {
		rows[i] = fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%d\t%s", m.Address, m.Name, yes(m.Covered), yes(m.Enabled), yes(m.HasPassword), m.AppPasswords, strings.Join(m.Aliases, ","))
	}
	return e.table(all, "ADDRESS\tNAME\tCOVERED\tENABLED\tPASSWORD\tAPPS\tALIASES", rows)
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

type mailboxSet struct {
	Address string  `arg:"" help:"Address."`
	Name    *string `help:"The person's name."`
	Covered *bool   `negatable:"" help:"Covered in a domain of scope selected."`
	Enabled *bool   `negatable:"" help:"May sign in."`
	Quota   *string `placeholder:"SIZE" help:"Size of the portal mailbox, such as 1G; 0 is the portal's default."`
}

// Run changes the settings that were given.
func (c *mailboxSet) Run(e *env) error {
	addr, err := mailboxAddress(c.Address)
	if err != nil {
		return err
	}
	change := store.MailboxChange{Name: c.Name, Covered: c.Covered, Enabled: c.Enabled}
	if c.Quota != nil {
		size, err := parseSize(*c.Quota)
		if err != nil {
			return err
		}
		change.QuotaBytes = &size
	}
	if change == (store.MailboxChange{}) {
		return usage("nothing to set; see mailbox set --help")
	}
	s, err := e.open()
	if err != nil {
		return err
	}
	if err := s.SetMailbox(e.ctx, addr, change); err != nil {
		return err
	}
	return e.done("set", addr)
}

type mailboxRemove struct {
	Address string `arg:"" help:"Address."`
	Yes     bool   `help:"Do it; without, only say what would go."`
}

// Run removes a mailbox, or says what that would delete.
func (c *mailboxRemove) Run(e *env) error {
	addr, err := mailboxAddress(c.Address)
	if err != nil {
		return err
	}
	s, err := e.open()
	if err != nil {
		return err
	}
	m, err := s.Mailbox(e.ctx, store.Everything, addr)
	if err != nil {
		return err
	}
	if !c.Yes {
		return fmt.Errorf("this would delete %s with its %d aliases and %d app passwords; mail still in its portal folders would not be sent back; add --yes to do it",
			addr, len(m.Aliases), m.AppPasswords)
	}
	if err := s.RemoveMailbox(e.ctx, addr); err != nil {
		return err
	}
	return e.done("removed", addr)
}

// parseSize reads octets: a number, or one with K, M, G, T (powers of 1024).
func parseSize(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	number := strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(strings.TrimSpace(s)), "B"), "I")
	shift := 0
	if i := strings.IndexAny(number, "KMGT"); i >= 0 && i == len(number)-1 {
		shift = 10 * (strings.IndexByte("KMGT", number[i]) + 1)
		number = number[:i]
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > (1<<62)>>shift {
		return 0, usage("size %q; write it as 500M or 1G", s)
	}
	return n << shift, nil
}
