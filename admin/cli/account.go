package cli

import (
	"fmt"
	"strings"

	"understudy/internal/store"
)

type accountCmd struct {
	Add    accountAdd    `cmd:"" help:"Add an operator or a domain admin."`
	List   accountList   `cmd:"" help:"List accounts."`
	Set    accountSet    `cmd:"" help:"Change role, domains or password of an account."`
	Remove accountRemove `cmd:"" help:"Remove an account."`
}

type accountAdd struct {
	Login  string   `arg:"" help:"What the person types to sign in."`
	Role   string   `required:"" enum:"operator,admin" help:"operator (everything) or admin (own domains)."`
	Domain []string `help:"A domain of a domain admin; may be repeated."`
	passwordFlags
}

// Run adds an account.
func (c *accountAdd) Run(e *env) error {
	domains, err := domainNames(c.Domain)
	if err != nil {
		return err
	}
	if c.Role == string(store.DomainAdmin) && len(domains) == 0 {
		return usage("a domain admin needs at least one --domain")
	}
	plain, hash, err := c.required(e.in)
	if err != nil {
		return err
	}
	s, err := e.open()
	if err != nil {
		return err
	}
	if err := s.AddAccount(e.ctx, store.Account{Login: c.Login, Role: store.Role(c.Role), Hash: hash, Domains: domains}); err != nil {
		return err
	}
	return e.printPassword(c.Generate, c.Login, plain, "added")
}

func domainNames(in []string) ([]string, error) {
	var out []string
	for _, s := range in {
		d, err := domainName(s)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

type accountList struct{}

// Run lists accounts.
func (accountList) Run(e *env) error {
	s, err := e.open()
	if err != nil {
		return err
	}
	list, err := s.Accounts(e.ctx)
	if err != nil {
		return err
	}
	rows := make([]string, len(list))
	for i, a := range list {
		rows[i] = fmt.Sprintf("%s\t%s\t%s", a.Login, a.Role, strings.Join(a.Domains, ","))
	}
	return e.table(list, "LOGIN\tROLE\tDOMAINS", rows)
}

type accountSet struct {
	Login  string   `arg:"" help:"Login."`
	Role   *string  `help:"operator or admin."`
	Domain []string `help:"The domains of a domain admin, replacing those set; may be repeated."`
	passwordFlags
}

// Run changes what was given.
func (c *accountSet) Run(e *env) error {
	var change store.AccountChange
	var err error
	if c.Role != nil {
		role := store.Role(*c.Role)
		if role != store.Operator && role != store.DomainAdmin {
			return usage("role %q; it is operator or admin", role)
		}
		change.Role = &role
	}
	if change.Domains, err = domainNames(c.Domain); err != nil {
		return err
	}
	plain, hash, err := c.read(e.in)
	if err != nil {
		return err
	}
	if hash != "" {
		change.Hash = &hash
	}
	if change.Role == nil && change.Hash == nil && change.Domains == nil {
		return usage("nothing to set; see account set --help")
	}
	s, err := e.open()
	if err != nil {
		return err
	}
	if err := s.SetAccount(e.ctx, c.Login, change); err != nil {
		return err
	}
	return e.printPassword(c.Generate, c.Login, plain, "set")
}

type accountRemove struct {
	Login string `arg:"" help:"Login."`
}

// Run removes an account.
func (c *accountRemove) Run(e *env) error {
	s, err := e.open()
	if err != nil {
		return err
	}
	if err := s.RemoveAccount(e.ctx, c.Login); err != nil {
		return err
	}
	return e.done("removed", c.Login)
}
