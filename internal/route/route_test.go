package route

import (
	"testing"

	"understudy/internal/address"
	"understudy/internal/directory"
)

// TestFor walks the whole table: mode, activation, scope, mailbox.
func TestFor(t *testing.T) {
	t.Parallel()
	covered, uncovered := "covered", "uncovered"
	tests := []struct {
		mode       directory.Mode
		activation directory.Activation
		scope      directory.Scope
		local      string
		want       Route
	}{
		{directory.Normal, directory.Automatic, directory.ScopeAll, covered, PrimaryAuto},
		{directory.Normal, directory.Automatic, directory.ScopeAll, uncovered, PrimaryAuto}, // scope all covers every mailbox
		{directory.Normal, directory.Automatic, directory.ScopeAll, "unregistered", PrimaryHold},
		{directory.Normal, directory.Observe, directory.ScopeAll, covered, PrimaryHold},
		{directory.Normal, directory.Manual, directory.ScopeAll, covered, PrimaryHold},
		{directory.Normal, directory.Automatic, directory.ScopeSelected, covered, PrimaryAuto},
		{directory.Normal, directory.Automatic, directory.ScopeSelected, uncovered, PrimaryHold},
		{directory.Emergency, directory.Manual, directory.ScopeAll, covered, Portal},
		{directory.Emergency, directory.Automatic, directory.ScopeAll, "alias", Portal},
		{directory.Emergency, directory.Automatic, directory.ScopeAll, "unregistered", PrimaryHold},
		{directory.Emergency, directory.Automatic, directory.ScopeSelected, covered, Portal},
		{directory.Emergency, directory.Automatic, directory.ScopeSelected, "alias", Portal},
		{directory.Emergency, directory.Automatic, directory.ScopeSelected, uncovered, PrimaryHold},
		{directory.Emergency, directory.Automatic, directory.ScopeSelected, "unregistered", PrimaryHold},
	}
	for _, tt := range tests {
		d := directory.New()
		d.Apply(&directory.Change{Full: true,
			Domains: []*directory.Domain{{ID: 1, Name: "example.test", Mode: tt.mode, Activation: tt.activation, Scope: tt.scope}},
			Mailboxes: []*directory.Mailbox{{ID: 1, DomainID: 1, Address: "covered@example.test", Covered: true},
				{ID: 2, DomainID: 1, Address: "uncovered@example.test"}},
			Aliases: []*directory.Alias{{ID: 1, DomainID: 1, Address: "alias@example.test", MailboxID: 1}}})
		a, err := address.Parse(tt.local + "+tag@Example.Test")
		if err != nil {
			t.Fatal(err)
		}
		if got := For(d.Recipient(a)); got != tt.want {
			t.Errorf("%+v: %v", tt, got)
		}
		if got := For(d.Recipient(address.Address{Local: tt.local, Domain: "elsewhere.test"})); got != NotOurs {
			t.Errorf("a foreign domain: %v", got)
		}
	}
}

func TestNextHop(t *testing.T) {
	t.Parallel()
	d := &directory.Domain{Primaries: []string{"mx1.example.test:25", "192.0.2.1:2525", "[2001:db8::1]:25", "mx:in.example.test", "bare"}}
	want := "[mx1.example.test]:25,[192.0.2.1]:2525,[ipv6:2001:db8::1]:25,in.example.test:25"
	if got := NextHop(d); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
