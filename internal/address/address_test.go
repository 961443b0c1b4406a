package address

import (
	"errors"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	t.Parallel()
	tests := []struct{ in, canonical, detail string }{
		{"ana@example.test", "ana@example.test", ""},
		{"<ANA@Example.TEST>", "ana@example.test", ""},
		{"Ana+Lists@example.test.", "ana@example.test", "Lists"},
		{"ana+a+b@example.test", "ana@example.test", "a+b"},
		{"+ana@example.test", "+ana@example.test", ""},
		{`"ana"@example.test`, "ana@example.test", ""},
		{`"a b"@example.test`, `"a b"@example.test`, ""},
		{`"a\"b"@example.test`, `"a\"b"@example.test`, ""},
		{`"a@b"@example.test`, `"a@b"@example.test`, ""},
		{"usér@exämple.test", "usér@xn--exmple-cua.test", ""},
		{"USE\u0301R@example.test", "us\u00e9r@example.test", ""},
		{"@relay.test:ana@example.test", "ana@example.test", ""},
		{"ana@EXÄMPLE.test", "ana@xn--exmple-cua.test", ""},
		{"ana@XN--Exmple-cua.test", "ana@xn--exmple-cua.test", ""},
		{`"ana+b c"@example.test`, "ana@example.test", "b c"},
		{"ana@with_underscore.test", "ana@with_underscore.test", ""},
		{"ana@r3---sn.example.test", "ana@r3---sn.example.test", ""},
		{"ana@[192.0.2.1]", "ana@[192.0.2.1]", ""},
	}
	for _, tt := range tests {
		got, err := Parse(tt.in)
		if err != nil {
			t.Errorf("Parse(%q): %v", tt.in, err)
			continue
		}
		if got.String() != tt.canonical || got.Detail != tt.detail {
			t.Errorf("Parse(%q) = %q detail %q, want %q detail %q", tt.in, got, got.Detail, tt.canonical, tt.detail)
		}
	}
}

// TestParseUnquoted: what Postfix says of an address means the same as what
// the client wrote.
func TestParseUnquoted(t *testing.T) {
	t.Parallel()
	for unquoted, written := range map[string]string{
		"ana@example.test": "ana@example.test", "Ana+x@Example.test": "ana+x@example.test", "a b@example.test": `"a b"@example.test`,
		`"ana"@example.test`: `"\"ana\""@example.test`, `a\b@example.test`: `"a\\b"@example.test`, "a@b@example.test": `"a@b"@example.test`,
		"<ana>@example.test": `"<ana>"@example.test`,
	} {
		got, err := ParseUnquoted(unquoted)
		want, errWant := Parse(written)
		if err != nil || errWant != nil || got.String() != want.String() || got.Detail != want.Detail {
			t.Errorf("%q: got %q %v, want %q %v", unquoted, got, err, want, errWant)
		}
	}
	for _, in := range []string{"", "ana", "@example.test", "a*b@example.test", "a\nb@example.test", "\xff@example.test", "ana@", strings.Repeat("a", 250) + "@example.test"} {
		if a, err := ParseUnquoted(in); !errors.Is(err, ErrInvalid) {
			t.Errorf("ParseUnquoted(%q) = %v, %v; want ErrInvalid", in, a, err)
		}
	}
}

func TestParseNullSender(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"", "<>", " "} {
		if a, err := Parse(in); err != nil || !a.IsZero() {
			t.Errorf("Parse(%q) = %v, %v; want the null path", in, a, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"ana", "@example.test", "ana@", "a b@example.test", "user*drain@example.test",
		"ana@exa mple.test", `"ana@example.test`, "a\x00b@example.test", "\xff@example.test",
		strings.Repeat("a", 250) + "@example.test", "ana@../../etc"} {
		if a, err := Parse(in); !errors.Is(err, ErrInvalid) {
			t.Errorf("Parse(%q) = %v, %v; want ErrInvalid", in, a, err)
		}
	}
}

// FuzzParse checks that a canonical address is a fixed point.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"ana@example.test", `"a b"@x.test`, "A+b@x.test", "usér@exämple.test", "<>", "@a:b@c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := Parse(s)
		if err != nil || a.IsZero() {
			return
		}
		b, err := Parse(a.String())
		if len(a.String()) <= MaxLength && (err != nil || b.String() != a.String()) {
			t.Fatalf("Parse(%q) = %q; parsed again: %q, %v", s, a, b, err)
		}
	})
}
