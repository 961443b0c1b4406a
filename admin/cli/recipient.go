package cli

import (
	"fmt"
	"strings"

	"understudy/internal/address"
	"understudy/internal/store"
)

type recipientCmd struct {
	List   recipientList   `cmd:"" help:"Show what the mail server of a domain says of its addresses."`
	Accept recipientAccept `cmd:"" help:"Register addresses that are offered, as mailboxes without a password."`
	Ignore recipientIgnore `cmd:"" help:"Never offer an address again."`
	Learn  recipientLearn  `cmd:"" help:"Say what becomes of addresses that the mail server has and nobody registered."`
}

type recipientList struct {
	Domain  string `arg:"" help:"Domain."`
	Offered bool   `help:"Only addresses that are offered for registration." xor:"which"`
	Refused bool   `help:"Only registered addresses that the mail server has refused for long." xor:"which"`
}

// recipientsOut is the list with --json.
type recipientsOut struct {
	*store.RecipientDomain
	Offers   []store.Offer   `json:"offers"`
	Refusals []store.Refusal `json:"refusals"`
}

// Run lists offers and refusals.
func (c *recipientList) Run(e *env) error {
	domain, err := domainName(c.Domain)
	if err != nil {
		return err
	}
	s, err := e.open()
	if err != nil {
		return err
	}
	out := recipientsOut{Offers: []store.Offer{}, Refusals: []store.Refusal{}}
	if out.RecipientDomain, err = s.RecipientDomain(e.ctx, domain); err != nil {
		return err
	}
	var rows []string
	if !c.Refused {
		if out.Offers, err = s.Offers(e.ctx, domain, "", maxListed); err != nil {
			return err
		}
		for _, o := range out.Offers {
			rows = append(rows, fmt.Sprintf("%s\toffered\t%s\tgets mail, last %s", o.Address, stamp(o.FirstSeen), stamp(o.LastSeen)))
		}
	}
	if !c.Offered {
		if out.Refusals, err = s.Refusals(e.ctx, domain); err != nil {
			return err
		}
		for _, r := range out.Refusals {
			rows = append(rows, fmt.Sprintf("%s\trefused\t%s\tthe mail server has refused this address since; it says: %s", r.Address, stamp(r.Since), r.Reply))
		}
	}
	if !e.json {
		fmt.Fprintf(e.out, "%s: %s; found addresses: %s\n", domain, catchAllText(out.CatchAll), out.Learn)
	}
	return e.table(out, "ADDRESS\tSTATE\tSINCE\tWHAT", rows)
}

const maxListed = 1000

func catchAllText(known *bool) string {
	switch {
	case known == nil:
		return "not yet asked whether the mail server takes any address"
	case *known:
		return "the mail server takes any address (catch-all), so nothing can be learned of single ones"
	}
	return "the mail server refuses addresses that it does not have"
}

type recipientAccept struct {
	Address string `arg:"" optional:"" help:"Address; with --all not."`
	All     string `placeholder:"DOMAIN" help:"All that are offered of this domain."`
}

// Run registers offers.
func (c *recipientAccept) Run(e *env) error {
	if (c.Address == "") == (c.All == "") {
		return usage("name an address, or --all DOMAIN")
	}
	var addresses []string
	domain, err := domainName(c.All)
	if c.Address != "" {
		domain, addresses, err = oneAddress(c.Address)
	}
	if err != nil {
		return err
	}
	s, err := e.open()
	if err != nil {
		return err
	}
	added, err := s.AcceptOffers(e.ctx, domain, addresses...)
	if err != nil {
		return err
	}
	return e.print(struct {
		Added []string `json:"added"`
	}{append([]string{}, added...)}, "%d added, without a password: %s", len(added), strings.Join(added, ", "))
}

// oneAddress is an address and its domain.
func oneAddress(typed string) (domain string, addresses []string, err error) {
	addr, err := mailboxAddress(typed)
	if err != nil {
		return "", nil, err
	}
	a, err := address.Parse(addr)
	return a.Domain, []string{addr}, err
}

type recipientIgnore struct {
	Address string `arg:"" help:"Address."`
}

// Run ignores an address.
func (c *recipientIgnore) Run(e *env) error {
	domain, addresses, err := oneAddress(c.Address)
	if err != nil {
		return err
	}
	s, err := e.open()
	if err != nil {
		return err
	}
	if err := s.IgnoreOffer(e.ctx, domain, addresses[0]); err != nil {
		return err
	}
	return e.done("ignored", addresses[0])
}

type recipientLearn struct {
	Domain string `arg:"" help:"Domain."`
	Learn  string `arg:"" enum:"off,offer,add" help:"off; offer (ask people); add (register at once)."`
}

// Run sets what becomes of found addresses.
func (c *recipientLearn) Run(e *env) error {
	domain, err := domainName(c.Domain)
	if err != nil {
		return err
	}
	s, err := e.open()
	if err != nil {
		return err
	}
	if err := s.SetLearn(e.ctx, domain, store.Learn(c.Learn)); err != nil {
		return err
	}
	return e.done("learn "+c.Learn, domain)
}
