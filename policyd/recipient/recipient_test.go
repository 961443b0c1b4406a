package recipient

import (
	"testing"

	"understudy/policyd/policytest"
)

// TestForms: one mailbox in all the forms that a client may write, as lookups
// and as policy requests have them.
func TestForms(t *testing.T) {
	t.Parallel()
	example := policytest.Example()
	example.Covered = append(example.Covered, `"a b"`, `"a@b"`, "usér", `"\"ana\""`, "+lead", "o'neil")
	idn := policytest.Example().With(func(d *policytest.Domain) { d.Name, d.Aliases = "xn--exmple-cua.test", nil })
	dir := policytest.Directory(example, idn)
	for _, tt := range []struct{ lookup, request, want string }{ // "" in want: not registered
		{"ana@example.test", "ana@example.test", "ana@example.test"},
		{"ANA@EXAMPLE.TEST", "ANA@EXAMPLE.TEST", "ana@example.test"},
		{"ana+list@example.test", "ana+list@example.test", "ana@example.test"},
		{"ana+@example.test", "ana+@example.test", "ana@example.test"},
		{"Info+A+B@example.test", "Info+A+B@example.test", "ana@example.test"},
		{"+lead@example.test", "+lead@example.test", "+lead@example.test"},
		{"O'Neil@example.test", "O'Neil@example.test", "o'neil@example.test"},
		{`"ana"@example.test`, "ana@example.test", "ana@example.test"},
		{`"ana+list"@example.test`, "ana+list@example.test", "ana@example.test"},
		{`"A B"@example.test`, "A B@example.test", `"a b"@example.test`},
		{`"a b+x y"@example.test`, "a b+x y@example.test", `"a b"@example.test`},
		{`"a\ b"@example.test`, "a b@example.test", `"a b"@example.test`},
		{`"a@b"@example.test`, "a@b@example.test", `"a@b"@example.test`},
		{`"\"ana\""@example.test`, `"ana"@example.test`, `"\"ana\""@example.test`},
		{`"a  b"@example.test`, "a  b@example.test", ""},
		{"USÉR@example.test", "USÉR@example.test", "usér@example.test"},
		{"use\u0301r+x@example.test", "use\u0301r+x@example.test", "usér@example.test"},
		{"ana@exämple.test", "ana@exämple.test", "ana@xn--exmple-cua.test"},
		{"ana@EXÄMPLE.test", "ana@EXÄMPLE.test", "ana@xn--exmple-cua.test"},
		{"ana@exa\u0308mple.test", "ana@exa\u0308mple.test", "ana@xn--exmple-cua.test"},
		{"Ana+x@Xn--Exmple-Cua.Test", "Ana+x@Xn--Exmple-Cua.Test", "ana@xn--exmple-cua.test"},
		{"dora@exämple.test", "dora@exämple.test", ""},
		{"a*b@example.test", "a*b@example.test", ""},
	} {
		for form, r := range map[string]string{"lookup": tt.lookup, "request": tt.request} {
			found := Find(dir, r)
			if form == "request" {
				found = FindUnquoted(dir, r)
			}
			got := ""
			if found.Mailbox != nil {
				got = found.Mailbox.Address
			}
			if got != tt.want || found.Domain == nil {
				t.Errorf("%s %q: got %q of domain %v, want %q", form, r, got, found.Domain, tt.want)
			}
		}
	}
}
