package main

import (
	"strings"
	"testing"

	"understudy/internal/directory"
	"understudy/policyd/limit"
	"understudy/policyd/policytest"
)

// sending is a domain with a server, an account and mailboxes that send.
func sending() policytest.Domain {
	return policytest.Example().With(func(d *policytest.Domain) { d.Accounts = []string{"relay-1"} })
}

func submission(login, rcpt string) *policytest.Request {
	return policytest.NewRequest().Context("submission").Set("sasl_username", login).Sender("ana@example.test").Recipient(rcpt)
}

func relay(client, sender string) *policytest.Request {
	return policytest.NewRequest().Context("relay").Client(client).Sender(sender).Recipient("x@elsewhere.test")
}

func TestSendersAreLimited(t *testing.T) {
	t.Parallel()
	c := newConfig(t)
	c.Limits = limit.Config{Mailbox: limit.Rate{PerHour: 6, Burst: 2}, Account: limit.Rate{PerDay: 3}, Network: limit.Rate{PerHour: 6, Burst: 4}}
	saveDirectory(t, c, sending())
	s, stop := startService(t, c)
	policy := dial(t, c.PolicyListen)
	const world = "x@elsewhere.test"

	// What is refused anyway costs nothing.
	for range 5 {
		policytest.Load(s.dir, sending().With(func(d *policytest.Domain) { d.Mode = directory.Emergency }))
		ask(t, policy, submission("ana@example.test", "dora@example.test"), "550 5.1.1 ")
	}
	policytest.Load(s.dir, sending())
	ask(t, policy, submission("ana@example.test", world), "DUNNO")
	ask(t, policy, submission("Ana@Example.test", "bruno@example.test"), "reject_unverified_recipient")
	ask(t, policy, submission("ana@example.test", world), "450 4.7.1 Sending limit of 6 recipients an hour reached; try again in 10 minutes")
	ask(t, policy, submission("bruno@example.test", world), "DUNNO")
	for range 3 {
		ask(t, policy, submission("relay-1", world), "DUNNO")
	}
	ask(t, policy, submission("relay-1", world), "550 5.7.1 Daily sending limit of 3 recipients reached; it ends in 24 hours")
	ask(t, policy, relay("127.0.0.2", "ana@example.test"), "OK")
	ask(t, policy, relay("127.0.0.2", "dora@example.test"), "OK")
	ask(t, policy, relay("127.0.0.2", ""), "OK") // bounces are counted too
	ask(t, policy, relay("127.0.0.2", ""), "OK")
	ask(t, policy, relay("127.0.0.2", "ana@example.test"), "450 4.7.1 ")
	ask(t, policy, relay("127.0.0.2", ""), "450 4.7.1 ")
	for range 10 { // inbound mail has no limit, nor has who is not ours
		ask(t, policy, policytest.NewRequest().Client("127.0.0.2"), "reject_unverified_recipient")
		ask(t, policy, submission("gone@example.test", world), "DUNNO")
		ask(t, policy, submission("", world), "DUNNO")
	}
	for _, kind := range []string{`answer="over-hour-mailbox",protocol="policy",question="submission"} 1`,
		`answer="over-day-account",protocol="policy",question="submission"} 1`, `answer="over-hour-network",protocol="policy",question="relay"} 2`} {
		metricsSay(t, c, "understudy_policyd_requests_total{"+kind)
	}
	metricsSay(t, c, "understudy_policyd_limited_senders 4")

	// A domain's own limits, and an account's, count at once.
	policytest.Load(s.dir, sending().With(func(d *policytest.Domain) {
		d.Limits = directory.SendLimit{MailboxPerHour: 600, NetworkPerDay: 4}
	}))
	ask(t, policy, submission("ana@example.test", world), "DUNNO")
	ask(t, policy, relay("127.0.0.2", "ana@example.test"), "550 5.7.1 Daily sending limit of 4 recipients")

	// With a restart the counts start anew.
	stop()
	startService(t, c)
	ask(t, dial(t, c.PolicyListen), submission("relay-1", world), "DUNNO")
}

// TestPostfixTellsLimits reads what a client of a real Postfix is told.
func TestPostfixTellsLimits(t *testing.T) {
	t.Parallel()
	p := newPostfix(t)
	c := wired(t, p)
	c.Limits = limit.Config{Mailbox: limit.Rate{PerHour: 3, Burst: 1}, Account: limit.Rate{PerDay: 1}, Network: limit.Rate{PerHour: 6, Burst: 1}}
	saveDirectory(t, c, sending().With(func(d *policytest.Domain) { d.Primaries = []string{startPrimary(t, "ana")} }))
	startService(t, c)
	greetSASL(t, p.dir+"/queue/sidecar/sasl")
	p.start(t)
	const world = "x@elsewhere.test"
	for _, tt := range []struct {
		server string
		envelope
		want string
	}{
		{p.signed, envelope{user: "ana@example.test", mail: "ana@example.test"}, "450 4.7.1 <x@elsewhere.test>: Recipient address rejected: Sending limit of 3 recipients an hour reached; try again in 20 minutes"},
		{p.signed, envelope{user: "relay-1", mail: "robot@example.test"}, "550 5.7.1 <x@elsewhere.test>: Recipient address rejected: Daily sending limit of 1 recipients reached"},
		{p.public, envelope{from: "127.0.0.2", mail: "robot@example.test"}, "450 4.7.1 <x@elsewhere.test>: Recipient address rejected: Sending limit of 6 "},
	} {
		tt.rcpt = world
		if got := answer(t, tt.server, tt.envelope); !strings.HasPrefix(got, "250 2.1.5 ") {
			t.Errorf("%+v, within its limit: %q", tt.envelope, got)
		}
		if got := answer(t, tt.server, tt.envelope); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%+v, over its limit: %q, want %q", tt.envelope, got, tt.want)
		}
	} // What policyd lets pass is counted, also when the primary then refuses it.
	unknown := envelope{user: "bruno@example.test", mail: "bruno@example.test", rcpt: "nobody@example.test"}
	for _, want := range []string{"550 5.1.1 ", "450 4.7.1 <nobody@example.test>: Recipient address rejected: Sending limit of 3 "} {
		if got := answer(t, p.signed, unknown); !strings.HasPrefix(got, want) {
			t.Errorf("to whom the primary does not have: %q, want %q", got, want)
		}
	}
}
