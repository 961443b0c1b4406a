package cli

import (
	"fmt"
	"strconv"
	"strings"

	"understudy/internal/store"
)

type outboundCmd struct {
	Add    outboundAdd    `cmd:"" help:"Add an account with which customers' servers send through us."`
	List   outboundList   `cmd:"" help:"List such accounts."`
	Set    outboundSet    `cmd:"" help:"Change an account."`
	Remove outboundRemove `cmd:"" help:"Remove an account."`
	Limits outboundLimits `cmd:"" help:"Show or set how much the senders of a domain may send."`
}

type outboundAdd struct {
	Name   string   `arg:"" help:"Login, such as relay-1; it has no '@', so that it is nobody's mailbox."`
	Domain []string `required:"" help:"Domain as which it may send; several are possible."`
	Rate   string   `placeholder:"N/h" help:"Recipients an hour, such as 1000/h; without, the default."`
	Daily  int      `help:"Recipients a day; 0 is the default."`
	passwordFlags
}

// Run adds an account.
func (c *outboundAdd) Run(e *env) error {
	perHour, err := parseRate(c.Rate)
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
	err = s.AddOutboundAccount(e.ctx, store.NewOutboundAccount{Name: c.Name, Domains: c.Domain, PerHour: perHour, PerDay: c.Daily, Hash: hash})
	if err != nil {
		return err
	}
	return e.printPassword(c.Generate, c.Name, plain, "added")
}

// parseRate reads recipients an hour: "1000/h" or "1000"; "" is 0, the
// default.
func parseRate(s string) (int, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(strings.TrimSuffix(s, "/h"))
	if err != nil || n < 0 || n > 1e9 {
		return 0, usage("rate %q; write recipients an hour, such as 1000/h; 0 is the default", s)
	}
	return n, nil
}

type outboundList struct {
	Domain string `arg:"" optional:"" help:"Only of this domain."`
}

// Run lists accounts.
func (c *outboundList) Run(e *env) error {
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
	list, err := s.OutboundAccounts(e.ctx, store.Everything, domain)
	if err != nil {
		return err
	}
	rows := make([]string, len(list))
	for i, a := range list {
		rows[i] = fmt.Sprintf("%s\t%s\t%s\t%s\t%s", a.Name, strings.Join(a.Domains, ","), yes(a.Enabled), orDefault(a.PerHour), orDefault(a.PerDay))
	}
	return e.table(list, "ACCOUNT\tDOMAINS\tENABLED\tPER-HOUR\tPER-DAY", rows)
}

func orDefault(n int) string {
	if n == 0 {
		return "default"
	}
	return strconv.Itoa(n)
}

type outboundSet struct {
	Name    string   `arg:"" help:"Login."`
	Domain  []string `help:"Domains as which it may send, replacing those set."`
	Enabled *bool    `negatable:"" help:"May sign in and send."`
	Rate    *string  `placeholder:"N/h" help:"Recipients an hour; 0 is the default."`
	Daily   *int     `help:"Recipients a day; 0 is the default."`
	passwordFlags
}

// Run changes what was given.
func (c *outboundSet) Run(e *env) error {
	change := store.OutboundChange{Domains: c.Domain, Enabled: c.Enabled, PerDay: c.Daily}
	if c.Rate != nil {
		n, err := parseRate(*c.Rate)
		if err != nil {
			return err
		}
		change.PerHour = &n
	}
	plain, hash, err := c.read(e.in)
	if err != nil {
		return err
	}
	if hash != "" {
		change.Hash = &hash
	}
	if change.Domains == nil && change.Enabled == nil && change.PerHour == nil && change.PerDay == nil && change.Hash == nil {
		return usage("nothing to set; see outbound set --help")
	}
	s, err := e.open()
	if err != nil {
		return err
	}
	if err := s.SetOutboundAccount(e.ctx, c.Name, change); err != nil {
		return err
	}
	return e.printPassword(c.Generate, c.Name, plain, "set")
}

type outboundRemove struct {
	Name string `arg:"" help:"Login."`
}

// Run removes an account.
func (c *outboundRemove) Run(e *env) error {
	s, err := e.open()
	if err != nil {
		return err
	}
	if err := s.RemoveOutboundAccount(e.ctx, c.Name); err != nil {
		return err
	}
	return e.done("removed", c.Name)
}

type outboundLimits struct {
	Domain       string  `arg:"" help:"Domain."`
	MailboxRate  *string `placeholder:"N/h" help:"Recipients an hour of each mailbox; 0 is the default."`
	MailboxDaily *int    `help:"Recipients a day of each mailbox; 0 is the default."`
	NetworkRate  *string `placeholder:"N/h" help:"Recipients an hour of the domain's own servers together; 0 is the default."`
	NetworkDaily *int    `help:"Recipients a day of these; 0 is the default."`
}

// Run shows the limits, after it has changed what was given.
func (c *outboundLimits) Run(e *env) error {
	domain, err := domainName(c.Domain)
	if err != nil {
		return err
	}
	s, err := e.open()
	if err != nil {
		return err
	}
	l, err := s.SendLimits(e.ctx, domain)
	if err != nil {
		return err
	}
	before := l
	for rate, to := range map[*string]*int{c.MailboxRate: &l.MailboxPerHour, c.NetworkRate: &l.NetworkPerHour} {
		if rate != nil {
			if *to, err = parseRate(*rate); err != nil {
				return err
			}
		}
	}
	for daily, to := range map[*int]*int{c.MailboxDaily: &l.MailboxPerDay, c.NetworkDaily: &l.NetworkPerDay} {
		if daily != nil {
			*to = *daily
		}
	}
	if l != before {
		if err := s.SetSendLimits(e.ctx, domain, l); err != nil {
			return err
		}
	}
	return e.print(l, "%s\n  each mailbox       %s an hour, %s a day\n  its own servers    %s an hour, %s a day", domain,
		orDefault(l.MailboxPerHour), orDefault(l.MailboxPerDay), orDefault(l.NetworkPerHour), orDefault(l.NetworkPerDay))
}
