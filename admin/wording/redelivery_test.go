package wording

import (
	"slices"
	"testing"

	"understudy/internal/store"
)

func TestRedelivery(t *testing.T) {
	t.Parallel()
	got := Redelivery(&store.RedeliveryPlan{Targets: []store.RedeliverTo{
		{Domain: "a.test", Mode: "normal", Messages: 3, Mailboxes: 2, Mailbox: "x@a.test"},
		{Domain: "b.test", Mode: "emergency", Messages: 1, Mailboxes: 1, Mailbox: "x@b.test"},
		{Domain: "c.test", Messages: 2, Mailboxes: 1, Mailbox: "x@c.test"},
	}})
	want := []string{
		"3 copies to 2 mailboxes of a.test, on the domain’s own mail server, which is active now.",
		"1 message to x@b.test, in the standby portal, because the domain is in emergency now.",
		"2 messages to x@c.test, nowhere: the domain is not here any more.",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
