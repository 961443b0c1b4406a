package main

import (
	"strings"
	"testing"

	"understudy/internal/directory"
	"understudy/policyd/policytest"
)

// TestFormsOfAnAddress: what a real Postfix makes of the ways to write an
// address: as the recipient of a domain in emergency, where the directory
// decides, in its lookups, and as the sender of who is signed in.
func TestFormsOfAnAddress(t *testing.T) {
	t.Parallel()
	p := newPostfix(t)
	c := wired(t, p)
	outage := policytest.Example().With(func(d *policytest.Domain) {
		d.Mode, d.Accounts = directory.Emergency, []string{"relay-1"}
		d.Covered = append(d.Covered, `"a b"`, "usér", `"\"ana\""`)
	})
	idn := policytest.Example().With(func(d *policytest.Domain) {
		d.Name, d.Mode, d.Covered, d.Aliases = "xn--exmple-cua.test", directory.Emergency, []string{"ana"}, nil
	})
	saveDirectory(t, c, outage, idn)
	startService(t, c)
	greetSASL(t, p.dir+"/queue/sidecar/sasl")
	p.start(t)

	for _, tt := range []struct {
		address string
		mailbox string // "": nobody's
	}{
		{"ana@example.test", "ana@example.test"},
		{"ANA@Example.TEST", "ana@example.test"},
		{"Ana+list+x@example.test", "ana@example.test"},
		{"info+x@example.test", "ana@example.test"},
		{`"ana"@example.test`, "ana@example.test"},
		{`"ana+list"@example.test`, "ana@example.test"},
		{`"A B"@example.test`, ""}, // as a login, below
		{`"\"ana\""@example.test`, ""},
		{"usér@example.test", "usér@example.test"},
		{"USÉR+x@example.test", "usér@example.test"},
		{"ana@exämple.test", "ana@xn--exmple-cua.test"},
		{"ana@EXÄMPLE.test", "ana@xn--exmple-cua.test"},
		{"Ana@Xn--Exmple-Cua.test", "ana@xn--exmple-cua.test"},
		{"dora@example.test", ""},
		{"dora@exämple.test", ""},
		{`"d r"@example.test`, ""},
	} {
		utf8 := strings.ContainsFunc(tt.address, func(r rune) bool { return r > '~' })
		exists := tt.mailbox != "" || strings.HasPrefix(tt.address, `"A`) || strings.HasPrefix(tt.address, `"\`)
		want, route := "550 5.1.1 ", "relay-hold:[192.0.2.1]:25,[192.0.2.2]:2525"
		if exists {
			want, route = "250 2.1.5 ", c.PortalTransport
		}
		if got := answer(t, p.public, envelope{mail: "x@elsewhere.test", rcpt: tt.address, utf8: utf8}); !strings.HasPrefix(got, want) {
			t.Errorf("RCPT TO:<%s>: got %q, want %q", tt.address, got, want)
		}
		if got, _, err := postmap(p, c, "transport", tt.address); err != nil || got != route {
			t.Errorf("transport of %s: got %q, %v; want %q", tt.address, got, err, route)
		}
		for login, may := range map[string]bool{"ana@example.test": tt.mailbox == "ana@example.test",
			"relay-1": strings.Contains(strings.ToLower(tt.address), "@example.test"), "bruno@example.test": false} {
			want := "553 5.7.1 "
			if may {
				want = "250 2.1.5 "
			}
			if got := answer(t, p.signed, envelope{user: login, mail: tt.address, rcpt: "x@elsewhere.test", utf8: utf8}); !strings.HasPrefix(got, want) {
				t.Errorf("%s sends as %s: got %q, want %q", login, tt.address, got, want)
			}
		}
	}
	// Bounces are nobody's: Postfix does not even ask whose the null sender is.
	for _, login := range []string{"ana@example.test", "relay-1"} {
		if got := answer(t, p.signed, envelope{user: login, rcpt: "x@elsewhere.test"}); !strings.HasPrefix(got, "250 2.1.5 ") {
			t.Errorf("%s sends a bounce: got %q", login, got)
		}
	}
}
