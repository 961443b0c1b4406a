package store

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"understudy/internal/directory"
)

func TestDomains(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ctx := t.Context()
	d, err := s.AddDomain(ctx, directory.Domain{Name: "Bücher.Example.", Primaries: []string{"MX.example.org:25", "[2001:DB8::1]:2525"},
		OutboundNetworks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	if err != nil {
		t.Fatal(err)
	}
	want := directory.Domain{Name: "xn--bcher-kva.example", Primaries: []string{"mx.example.org:25", "[2001:db8::1]:2525"}, Activation: directory.Manual,
		Scope: directory.ScopeAll, Mode: directory.Normal, RetentionDays: 90, OutboundNetworks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}
	ignore := cmpopts.IgnoreFields(directory.Domain{}, "ID", "ModeSince", "Version")
	prefix := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	if diff := cmp.Diff(want, d.Domain, ignore, prefix); diff != "" {
		t.Error(diff)
	}
	if _, err := s.AddDomain(ctx, d.Domain); !errors.Is(err, ErrConflict) {
		t.Errorf("again: %v", err)
	}
	scope, none := directory.ScopeSelected, []netip.Prefix{}
	d, err = s.SetDomain(ctx, d.Name, DomainChange{Scope: &scope, OutboundNetworks: none})
	if err != nil || d.Scope != scope || len(d.OutboundNetworks) != 0 || len(d.Primaries) != 2 {
		t.Errorf("got %+v, %v", d, err)
	}
	if _, err := s.SetDomain(ctx, d.Name, DomainChange{Primaries: []string{}}); !errors.Is(err, ErrInvalid) {
		t.Errorf("no primary: %v", err)
	}
	if _, err := s.SetDomain(ctx, "other.test", DomainChange{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown: %v", err)
	}
	if c, err := s.DomainContents(ctx, d.Name); err != nil || *c != (DomainContents{}) {
		t.Errorf("contents %+v, %v", c, err)
	}
	if err := s.RemoveDomain(ctx, d.Name); err != nil {
		t.Error(err)
	}
	if err := s.RemoveDomain(ctx, d.Name); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
}

func TestCheckDomain(t *testing.T) {
	t.Parallel()
	good := func() directory.Domain {
		return directory.Domain{Name: "example.test", Primaries: []string{"mx.example.test:25"}}
	}
	for name, c := range map[string]struct {
		spoil func(*directory.Domain)
		want  string
	}{
		"no name":         {func(d *directory.Domain) { d.Name = "" }, "no domain name"},
		"one label":       {func(d *directory.Domain) { d.Name = "localhost" }, "no domain name"},
		"literal":         {func(d *directory.Domain) { d.Name = "[192.0.2.1]" }, "no domain name"},
		"no primary":      {func(d *directory.Domain) { d.Primaries = nil }, "needs a primary"},
		"17 primaries":    {func(d *directory.Domain) { d.Primaries = make([]string, 17) }, "at most 16"},
		"no port":         {func(d *directory.Domain) { d.Primaries[0] = "mx" }, "HOST:PORT"},
		"port 0":          {func(d *directory.Domain) { d.Primaries[0] = "mx:0" }, "1 and 65535"},
		"named port":      {func(d *directory.Domain) { d.Primaries[0] = "mx:smtp" }, "1 and 65535"},
		"no host":         {func(d *directory.Domain) { d.Primaries[0] = ":25" }, "neither a host name"},
		"space in host":   {func(d *directory.Domain) { d.Primaries[0] = "m x:25" }, "neither a host name"},
		"bracket in host": {func(d *directory.Domain) { d.Primaries[0] = "a]:25" }, "HOST:PORT"},
		"activation":      {func(d *directory.Domain) { d.Activation = "auto" }, "manual, observe, automatic"},
		"scope":           {func(d *directory.Domain) { d.Scope = "some" }, "all, selected"},
		"retention":       {func(d *directory.Domain) { d.RetentionDays = 3651 }, "3650"},
		"past":            {func(d *directory.Domain) { d.RetentionDays = -1 }, "3650"},
	} {
		d := good()
		c.spoil(&d)
		if err := checkDomain(&d); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, err := ParseNetworks([]string{"192.0.2.1", "2001:db8::/64", "192.0.2.1/32", "192.0.2.9/24"}); err != nil {
		t.Error(err)
	}
}

// TestViewer: what an account may see is decided by the query.
func TestViewer(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ctx := t.Context()
	for _, n := range []string{"a.test", "b.test"} {
		if _, err := s.AddDomain(ctx, directory.Domain{Name: n, Primaries: []string{"127.0.0.1:25"}}); err != nil {
			t.Fatal(err)
		}
		if err := s.AddMailboxes(ctx, NewMailbox{Address: "x@" + n}); err != nil {
			t.Fatal(err)
		}
		if err := s.AddAlias(ctx, "y@"+n, "x@"+n); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range []Account{{Login: "op", Role: Operator}, {Login: "adm", Role: DomainAdmin, Domains: []string{"a.test"}}, {Login: "none", Role: DomainAdmin}} {
		if err := s.AddAccount(ctx, a); err != nil {
			t.Fatal(err)
		}
	}
	viewer := func(login string) Viewer {
		a, err := s.Account(ctx, login)
		if err != nil {
			t.Fatal(err)
		}
		return AccountViewer(a.ID)
	}
	for name, c := range map[string]struct {
		v       Viewer
		domains int
		seesB   bool
	}{
		"everything": {Everything, 2, true}, "operator": {viewer("op"), 2, true}, "admin": {viewer("adm"), 1, false},
		"admin of nothing": {viewer("none"), 0, false}, "zero": {Viewer{}, 0, false}, "account 0": {AccountViewer(0), 0, false},
	} {
		domains, err := s.Domains(ctx, c.v)
		if err != nil || len(domains) != c.domains {
			t.Errorf("%s sees %d domains, want %d: %v", name, len(domains), c.domains, err)
		}
		boxes, err := s.Mailboxes(ctx, c.v, MailboxQuery{Limit: 10})
		if err != nil || len(boxes) != c.domains {
			t.Errorf("%s sees %d mailboxes, want %d: %v", name, len(boxes), c.domains, err)
		}
		aliases, err := s.Aliases(ctx, c.v, "")
		if err != nil || len(aliases) != c.domains {
			t.Errorf("%s sees %d aliases, want %d: %v", name, len(aliases), c.domains, err)
		}
		_, errD := s.Domain(ctx, c.v, "b.test")
		_, errM := s.Mailbox(ctx, c.v, "x@b.test")
		if c.seesB != (errD == nil) || c.seesB != (errM == nil) || !c.seesB && !(errors.Is(errD, ErrNotFound) && errors.Is(errM, ErrNotFound)) {
			t.Errorf("%s and b.test: %v, %v", name, errD, errM)
		}
	}
}

func TestDrainState(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ctx := t.Context()
	domain := addDomain(t, s)
	k := LedgerKey{Mailbox: "a@example.test", GUID: "g"}
	if _, err := s.Begin(ctx, k, domain, 5); err != nil {
		t.Fatal(err)
	}
	if err := s.Hold(ctx, k, "550 no"); err != nil {
		t.Fatal(err)
	}
	if d, err := s.DrainState(ctx, domain, 10); err != nil || d.Running || d.Counts.Held != 1 || len(d.Messages) != 1 || d.Messages[0].Reply != "550 no" {
		t.Errorf("got %+v, %v", d, err)
	}
	if _, err := s.Retry(ctx, domain); err != nil {
		t.Fatal(err)
	}
	if d, err := s.DrainState(ctx, domain, 10); err != nil || !d.Running || d.Counts.Held != 0 {
		t.Errorf("after retry %+v, %v", d, err)
	}
}
