package store

import (
	"slices"
	"strings"
	"testing"
)

// TestBlindRecipientElsewhere: that a message left the house too, for somebody
// whom its header does not name, is known to its sender and to admins alone.
func TestBlindRecipientElsewhere(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	redeliverable(t, s) // for mailboxes and the alias
	m := sample(3)
	for i, sender := range []string{ana, "Boss@example.test", "boss@example.test"} { // an alias of ana
		m[i].Direction, m[i].Sender, m[i].FromHeader, m[i].ToHeader, m[i].Subject = "outbound", sender, "", bruno, "Secreto"
		m[i].Mailboxes, m[i].Recipients, m[i].Route = []string{ana, bruno}, []string{bruno, "blind@elsewhere.test"}, []string{"primary", "internet"}
		m[i].Received = s.now().UTC()
		if i == 2 {
			m[i].Subject, m[i].Direction, m[i].Route = "Twofold", "internal", []string{"primary", "portal"}
		}
	}
	ok(t, s.IndexBatch(t.Context(), IndexBatch{Segment: "s2", To: 30, Messages: m}))
	for _, c := range []struct {
		who   string
		a     Access
		query string
		want  int
	}{
		{"the sender", Access{Mailbox: ana}, "direction:out", 2},
		{"the sender", Access{Mailbox: ana}, "route:internet", 2},
		{"the sender", Access{Mailbox: ana}, "direction:internal", 0},
		{"a recipient", Access{Mailbox: bruno}, "direction:out", 0},
		{"a recipient", Access{Mailbox: bruno}, "-direction:internal", 0},
		{"a recipient", Access{Mailbox: bruno}, "(direction:internal OR size:>1G)", 2},
		{"a recipient", Access{Mailbox: bruno}, "route:internet", 0},
		{"a recipient", Access{Mailbox: bruno}, "route:primary", 2},
		{"an admin", Access{Domains: []string{"example.test"}}, "direction:out route:internet", 2},
		{"the sender", Access{Mailbox: ana}, "subject:twofold route:portal route:primary", 1},
		{"a recipient", Access{Mailbox: bruno}, "subject:twofold", 1},
		{"a recipient", Access{Mailbox: bruno}, "subject:twofold (route:portal OR route:primary OR route:internet)", 0},
		{"an admin", Access{Domains: []string{"example.test"}}, "subject:twofold route:portal route:primary", 1},
	} {
		f := MessageFilter{Access: c.a}
		if !strings.Contains(c.query, "twofold") {
			c.query = "subject:secreto " + c.query
		}
		ok(t, f.Ask(c.query))
		rows, _, err := s.SearchMessages(t.Context(), f)
		if err != nil || len(rows) != c.want {
			t.Errorf("%s finds %d by %s, want %d: %v", c.who, len(rows), c.query, c.want, err)
		}
		for _, r := range rows {
			if blind := c.who == "a recipient"; r.Subject != "Twofold" && (blind != (r.Direction == "internal") || blind == slices.Contains(r.Route, "internet")) {
				t.Errorf("%s is told %s, %s", c.who, r.Direction, r.Route)
			}
			if r.Subject == "Twofold" && (len(r.Route) == 0) != (c.who == "a recipient") {
				t.Errorf("%s is told %s", c.who, r.Route)
			}
		}
	}
}
