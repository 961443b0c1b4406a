package policy

import (
	"bufio"
	"net/netip"
	"strings"
	"testing"

	"understudy/internal/directory"
	"understudy/internal/evidence"
	"understudy/policyd/policytest"
)

// parse reads a built request as the server would.
func parse(t testing.TB, r *policytest.Request) Request {
	t.Helper()
	req, err := Read(bufio.NewReaderSize(strings.NewReader(r.String()), maxLineBytes))
	if err != nil {
		t.Fatal(err)
	}
	return req
}

func emergency(d *policytest.Domain) { d.Mode = directory.Emergency }

// selected makes a domain of scope selected in which ana and bruno are
// covered, and sven is registered but not covered.
func selected(d *policytest.Domain) {
	d.Scope, d.Uncovered = directory.ScopeSelected, []string{"sven"}
}

func manual(d *policytest.Domain) { d.Activation = directory.Manual }

// refused: the primary does not have ana and info, as it said when it worked.
func refused(d *policytest.Domain) { d.Refused = []string{"ana", "info"} }

func TestRecipientRules(t *testing.T) {
	t.Parallel()
	const verify, keep, unknown = "reject_unverified_recipient", "450 4.4.1 ", "550 5.1.1 User unknown"
	type change = func(*policytest.Domain)
	tests := []struct {
		name      string
		domain    []change
		failing   bool
		recipient string
		want      string // the action, or its beginning if it ends in a blank
	}{
		{"foreign domain", nil, false, "x@elsewhere.test", "DUNNO"},
		{"no domain", nil, false, "postmaster", "DUNNO"},
		{"no recipient", nil, false, "", "DUNNO"},

		{"normal, registered", nil, false, "ana@example.test", verify},
		{"normal, alias", nil, false, "info@example.test", verify},
		{"normal, unregistered", nil, false, "dora@example.test", verify},
		{"normal, postmaster", nil, false, "postmaster@example.test", verify},
		{"normal, manual, registered", []change{manual}, false, "ana@example.test", verify},
		{"normal, not an address we can hold", nil, false, "a*b@example.test", verify},

		{"failing, registered, automatic", nil, true, "ana@example.test", "DUNNO"},
		{"failing, detail", nil, true, "Ana+List@Example.TEST", "DUNNO"},
		{"failing, alias", nil, true, "info@example.test", "DUNNO"},
		{"failing, registered, manual", []change{manual}, true, "ana@example.test", "DUNNO"},
		{"failing, registered, not covered", []change{selected}, true, "sven@example.test", "DUNNO"},
		{"failing, unregistered", nil, true, "dora@example.test", keep},
		{"failing, refused before", []change{refused}, true, "ana@example.test", keep},
		{"failing, alias refused before", []change{refused}, true, "info@example.test", keep},
		{"failing, another was refused before", []change{refused}, true, "bruno@example.test", "DUNNO"},
		{"failing, postmaster", nil, true, "postmaster@example.test", keep},
		{"failing, not an address we can hold", nil, true, "a*b@example.test", keep},

		{"emergency, registered", []change{emergency}, true, "ana@example.test", "DUNNO"},
		{"emergency, quotes that belong to the name", []change{emergency}, true, `"ANA"@example.test`, unknown},
		{"emergency, refused before", []change{emergency, refused}, true, "ana@example.test", "DUNNO"},
		{"emergency, alias", []change{emergency}, true, "info@example.test", "DUNNO"},
		{"emergency, manual, registered", []change{emergency, manual}, false, "ana@example.test", "DUNNO"},
		{"emergency, unregistered", []change{emergency}, true, "dora@example.test", unknown},
		{"emergency, unregistered, primary healthy", []change{emergency}, false, "dora@example.test", unknown},
		{"emergency, postmaster unregistered", []change{emergency}, true, "postmaster@example.test", unknown},
		{"emergency, not an address we can hold", []change{emergency}, true, "a*b@example.test", unknown},
		{"emergency, too long", []change{emergency}, true, strings.Repeat("a", 300) + "@example.test", unknown},

		{"emergency, selected, covered", []change{emergency, selected}, true, "ana@example.test", "DUNNO"},
		{"emergency, selected, not covered", []change{emergency, selected}, true, "sven@example.test", keep},
		{"emergency, selected, not covered, primary healthy", []change{emergency, selected}, false, "sven@example.test", verify},
		{"emergency, selected, unregistered", []change{emergency, selected}, true, "dora@example.test", keep},
		{"emergency, selected, unregistered, primary healthy", []change{emergency, selected}, false, "dora@example.test", verify},
	}
	for _, tt := range tests {
		domain := policytest.Example()
		for _, c := range tt.domain {
			domain = domain.With(c)
		}
		dir := policytest.Directory(domain)
		for _, context := range []string{"", "recipient", "submission"} {
			for _, sender := range []string{"someone@elsewhere.test", ""} { // the null sender changes nothing
				req := parse(t, policytest.NewRequest().Context(context).Recipient(tt.recipient).Sender(sender))
				got := Decide(req, dir, func(*directory.Domain) bool { return tt.failing })
				if !matches(got.Action, tt.want) || got.Evidence != nil {
					t.Errorf("%s, context %q, sender %q: got %+v, want %q", tt.name, context, sender, got, tt.want)
				}
			}
		}
	}
}

func matches(action, want string) bool {
	return action == want || strings.HasSuffix(want, " ") && strings.HasPrefix(action, want)
}

func TestRelayRules(t *testing.T) {
	t.Parallel()
	other := policytest.Example().With(func(d *policytest.Domain) {
		d.Name, d.OutboundNetworks = "other.test", []netip.Prefix{netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("127.0.0.4/31")}
	})
	dir := policytest.Directory(policytest.Example(), other)
	tests := []struct{ name, client, sender, recipient, want string }{
		{"customer to the world", "127.0.0.2", "ana@example.test", "x@elsewhere.test", "OK"},
		{"customer, any sender of the domain", "127.0.0.2", "robot@EXAMPLE.test", "x@elsewhere.test", "OK"},
		{"customer, odd sender of the domain", "127.0.0.2", "a*b@example.test", "x@elsewhere.test", "OK"},
		{"customer to itself", "127.0.0.2", "ana@example.test", "bruno@example.test", "OK"},
		{"customer's bounce", "127.0.0.2", "", "x@elsewhere.test", "OK"},
		{"network, IPv6", "2001:db8::25", "ana@other.test", "x@elsewhere.test", "OK"},
		{"network, IPv4 in IPv6", "::ffff:127.0.0.5", "ana@other.test", "x@elsewhere.test", "OK"},
		{"zone", "2001:db8::25%eth0", "ana@other.test", "x@elsewhere.test", "OK"},
		{"customer with another's sender", "127.0.0.2", "ana@other.test", "x@elsewhere.test", "553 5.7.1 <ana@other.test>: Sender address not owned by this client"},
		{"customer with a foreign sender", "127.0.0.2", "x@elsewhere.test", "x@elsewhere.test", "553 "},
		{"customer with no address", "127.0.0.2", "root", "x@elsewhere.test", "553 "},
		{"customer forwards to ours", "127.0.0.2", "x@elsewhere.test", "ana@other.test", "DUNNO"},
		{"stranger", "192.0.2.99", "ana@example.test", "x@elsewhere.test", "DUNNO"},
		{"stranger's bounce", "192.0.2.99", "", "x@elsewhere.test", "DUNNO"},
		{"no client address", "unknown", "ana@example.test", "x@elsewhere.test", "DUNNO"},
		{"unsafe sender", "127.0.0.2", "a\rb\x7f\xffé@elsewhere.test", "x@elsewhere.test", "553 5.7.1 <a?b???@elsewhere.test>: Sender address not owned by this client"},
	}
	for _, tt := range tests {
		req := parse(t, policytest.NewRequest().Context("relay").Client(tt.client).Sender(tt.sender).Recipient(tt.recipient))
		if got := Decide(req, dir, never); !matches(got.Action, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, got.Action, tt.want)
		}
	}
}

func never(*directory.Domain) bool { return false }

func TestReentryRules(t *testing.T) {
	t.Parallel()
	const queue = "450 4.2.0 "
	tests := []struct {
		name, recipient, want string
		domain                string // of the evidence, "" for none
		class                 evidence.Class
	}{
		{"covered and registered", "ana@example.test", "DUNNO", "example.test", evidence.Fallback},
		{"alias", "info@example.test", "DUNNO", "example.test", evidence.Fallback},
		{"unregistered", "dora@example.test", queue, "example.test", evidence.FallbackRefused},
		{"registered, not covered", "sven@example.test", queue, "example.test", evidence.FallbackRefused},
		{"odd address", "a*b@example.test", queue, "example.test", evidence.FallbackRefused},
		{"domain gone since", "x@elsewhere.test", queue, "elsewhere.test", evidence.FallbackRefused},
		{"no address", "root", queue, "", ""},
	}
	for _, mode := range []directory.Mode{directory.Normal, directory.Emergency} {
		dir := policytest.Directory(policytest.Example().With(selected).With(func(d *policytest.Domain) { d.Mode = mode }))
		for _, tt := range tests {
			got := Decide(parse(t, policytest.NewRequest().Context("reentry").Recipient(tt.recipient)), dir, never)
			if !matches(got.Action, tt.want) {
				t.Errorf("%s, %s: got %q, want %q", mode, tt.name, got.Action, tt.want)
			}
			quiet := Decide(parse(t, policytest.NewRequest().Context("reentry_quiet").Recipient(tt.recipient)), dir, never)
			if quiet.Action != got.Action || quiet.Evidence != nil {
				t.Errorf("%s, %s, quietly: got %+v", mode, tt.name, quiet)
			}
			switch e := got.Evidence; {
			case e == nil && tt.domain != "":
				t.Errorf("%s, %s: no evidence", mode, tt.name)
			case e != nil && (e.Domain != tt.domain || e.Class != tt.class || e.Recipient != tt.recipient):
				t.Errorf("%s, %s: evidence %+v", mode, tt.name, e)
			}
		}
	}
}

func TestNotLoaded(t *testing.T) {
	t.Parallel()
	for context, want := range map[string]string{"": "451 4.3.5 ", "recipient": "451 4.3.5 ", "relay": "451 4.3.5 ",
		"submission": "451 4.3.5 ", "odd": "451 4.3.5 ", "reentry": "450 4.2.0 ", "reentry_quiet": "450 4.2.0 "} {
		for _, recipient := range []string{"ana@example.test", "x@elsewhere.test", ""} {
			got := Decide(parse(t, policytest.NewRequest().Context(context).Recipient(recipient)), directory.New(), never)
			if !matches(got.Action, want) {
				t.Errorf("context %q, recipient %q: got %q, want %q", context, recipient, got.Action, want)
			}
		}
	}
}

func TestOnlyRecipientsAreJudged(t *testing.T) {
	t.Parallel()
	dir := policytest.Directory(policytest.Example().With(emergency))
	for _, state := range []string{"CONNECT", "EHLO", "MAIL", "VRFY", "ETRN", "DATA", "END-OF-MESSAGE"} {
		for _, context := range []string{"", "relay", "submission", "reentry", "reentry_quiet"} {
			got := Decide(parse(t, policytest.NewRequest().Set("protocol_state", state).Context(context).Recipient("dora@example.test")), dir, never)
			if got.Action != "DUNNO" || got.Evidence != nil {
				t.Errorf("state %s, context %q: got %+v", state, context, got)
			}
		}
	}
}

func TestUnknownContextDefers(t *testing.T) {
	t.Parallel()
	got := Decide(parse(t, policytest.NewRequest().Context("recipent")), policytest.Directory(policytest.Example()), never)
	if !matches(got.Action, "451 4.3.5 ") {
		t.Errorf("got %q", got.Action)
	}
}
