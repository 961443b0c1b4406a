package cli

import (
	"fmt"
	"strings"

	"understudy/internal/directory"
	"understudy/internal/store"
)

type domainCmd struct {
	Add    domainAdd    `cmd:"" help:"Register a domain."`
	List   domainList   `cmd:"" help:"List domains."`
	Show   domainShow   `cmd:"" help:"Show a domain's settings."`
	Set    domainSet    `cmd:"" help:"Change settings of a domain."`
	Remove domainRemove `cmd:"" help:"Remove a domain with its mailboxes and aliases."`
}

type domainAdd struct {
	Name            string   `arg:"" help:"Domain name, such as example.org."`
	Primary         []string `required:"" placeholder:"HOST:PORT" help:"The customer's mail server, a HOST:PORT, or mx:NAME[:PORT] for the MX hosts of a name; several are tried in order."`
	Activation      string   `enum:"manual,observe,automatic" default:"manual" help:"Who switches: manual, observe, automatic."`
	Scope           string   `enum:"all,selected" default:"all" help:"Who is covered: all, or selected mailboxes."`
	Retention       string   `default:"90d" help:"How long the archive keeps messages."`
	OutboundNetwork []string `placeholder:"CIDR" help:"Where the customer's own servers send from."`
	learning
}

// Run registers a domain.
func (c *domainAdd) Run(e *env) error {
	days, err := store.ParseRetention(c.Retention)
	if err != nil {
		return err
	}
	networks, err := store.ParseNetworks(c.OutboundNetwork)
	if err != nil {
		return err
	}
	learn, err := c.learning.read()
	if err != nil {
		return err
	}
	s, err := e.open()
	if err != nil {
		return err
	}
	d, err := s.AddDomain(e.ctx, directory.Domain{Name: c.Name, Primaries: c.Primary, Activation: directory.Activation(c.Activation),
		Scope: directory.Scope(c.Scope), RetentionDays: days, OutboundNetworks: networks})
	if err != nil {
		return err
	}
	shown, err := learned(e, s, d, learn)
	if err != nil {
		return err
	}
	return e.print(shown, "%s: added; its mail goes to %s", d.Name, strings.Join(d.Primaries, ", "))
}

type domainList struct{}

// Run lists all domains.
func (domainList) Run(e *env) error {
	s, err := e.open()
	if err != nil {
		return err
	}
	domains, err := s.Domains(e.ctx, store.Everything)
	if err != nil {
		return err
	}
	rows := make([]string, len(domains))
	for i, d := range domains {
		rows[i] = fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%d\t%s", d.Name, d.Mode, stamp(d.ModeSince), d.Activation, d.Scope, d.Mailboxes, strings.Join(d.Primaries, ","))
	}
	return e.table(domains, "DOMAIN\tMODE\tSINCE\tACTIVATION\tSCOPE\tMAILBOXES\tPRIMARIES", rows)
}

type domainShow struct {
	Name string `arg:"" help:"Domain."`
}

// Run shows one domain.
func (c *domainShow) Run(e *env) error {
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
	shown, err := learned(e, s, d, "")
	if err != nil {
		return err
	}
	return e.print(shown, "%s", domainText(shown))
}

func domainText(d *domainShown) string {
	networks := make([]string, len(d.OutboundNetworks))
	for i, p := range d.OutboundNetworks {
		networks[i] = p.String()
	}
	x := store.DetectionOf(&d.Domain.Domain)
	return fmt.Sprintf("%s\n  mode        %s since %s\n  primaries   %s\n  activation  %s\n  detection   failures %s, storm %s, probe interval %s, recover after %s\n"+
		"  scope       %s\n  retention   %s\n  outbound    %s\n  mailboxes   %d\n  learning    %s",
		d.Name, d.Mode, stamp(d.ModeSince), strings.Join(d.Primaries, ", "), d.Activation, x.Failures, x.Storm, x.ProbeInterval, x.RecoverAfter,
		d.Scope, retentionText(d.Domain), strings.Join(networks, ", "), d.Mailboxes, d.Learn)
}

// retentionText tells after a retention was shortened what is still there.
func retentionText(d *store.Domain) string {
	text := fmt.Sprintf("%d days", d.RetentionDays)
	if d.KeptDays != nil && d.KeptUntil != nil {
		text += fmt.Sprintf("; it was longer: what is older is hidden now, and until %s nothing is removed that %d days keep", stamp(*d.KeptUntil), *d.KeptDays)
	}
	return text
}

// detection are the detector's settings of a domain (docs/detection.md).
type detection struct {
	DetectFailures *string `placeholder:"N" help:"Failed probes in a row before an emergency, or default."`
	DetectStorm    *string `placeholder:"N" help:"Deliveries refused for everybody before an emergency; 0 is never by these; or default."`
	ProbeInterval  *string `placeholder:"TIME" help:"Time between probes while all is well, such as 10s, or default."`
	RecoverAfter   *string `placeholder:"TIME" help:"How long the server must be healthy before mail goes back, such as 2m, or default."`
}

func (c *detection) read(change *store.DomainChange) error {
	return change.SetDetection(c.DetectFailures, c.DetectStorm, c.ProbeInterval, c.RecoverAfter)
}

type domainSet struct {
	Name              string   `arg:"" help:"Domain."`
	Primary           []string `placeholder:"HOST:PORT" help:"The customer's mail servers, replacing those set; a HOST:PORT, or mx:NAME[:PORT] for the MX hosts of a name."`
	Activation        *string  `help:"Who switches: manual, observe, automatic."`
	Scope             *string  `help:"Who is covered: all, selected."`
	Retention         *string  `help:"How long the archive keeps messages, such as 90d. A shorter time hides older ones at once and removes them after 7 days."`
	OutboundNetwork   []string `placeholder:"CIDR" help:"Where the customer's own servers send from, replacing those set." xor:"networks"`
	NoOutboundNetwork bool     `help:"No server of the customer sends through us." xor:"networks"`
	detection
	learning
}

// Run changes the settings that were given.
func (c *domainSet) Run(e *env) error {
	name, err := domainName(c.Name)
	if err != nil {
		return err
	}
	change := store.DomainChange{Primaries: c.Primary, Actor: actor()}
	if c.Activation != nil {
		v := directory.Activation(*c.Activation)
		change.Activation = &v
	}
	if c.Scope != nil {
		v := directory.Scope(*c.Scope)
		change.Scope = &v
	}
	if c.Retention != nil {
		days, err := store.ParseRetention(*c.Retention)
		if err != nil {
			return err
		}
		change.RetentionDays = &days
	}
	if len(c.OutboundNetwork) > 0 || c.NoOutboundNetwork {
		if change.OutboundNetworks, err = store.ParseNetworks(c.OutboundNetwork); err != nil {
			return err
		}
	}
	if err := c.detection.read(&change); err != nil {
		return err
	}
	learn, err := c.learning.read()
	if err != nil {
		return err
	}
	if learn == "" && c.Primary == nil && c.Activation == nil && c.Scope == nil && c.Retention == nil && change.OutboundNetworks == nil && c.detection == (detection{}) {
		return usage("nothing to set; see domain set --help")
	}
	s, err := e.open()
	if err != nil {
		return err
	}
	d, err := s.SetDomain(e.ctx, name, change)
	if err != nil {
		return err
	}
	shown, err := learned(e, s, d, learn)
	if err != nil {
		return err
	}
	return e.print(shown, "%s", domainText(shown))
}
