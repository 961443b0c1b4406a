package nexthop

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	t.Parallel()
	tests := []struct{ in, canonical, postfix, err string }{
		{"mail.example.org:25", "mail.example.org:25", "[mail.example.org]:25", ""},
		{" Mail.Example.org:025 ", "mail.example.org:25", "[mail.example.org]:25", ""},
		{"192.0.2.1:2525", "192.0.2.1:2525", "[192.0.2.1]:2525", ""},
		{"[2001:DB8::1]:25", "[2001:db8::1]:25", "[ipv6:2001:db8::1]:25", ""},
		{"mx:Example.org", "mx:example.org", "example.org:25", ""},
		{"MX:example.org:25", "mx:example.org", "example.org:25", ""},
		{"mx:bücher.example:2525", "mx:xn--bcher-kva.example:2525", "xn--bcher-kva.example:2525", ""},
		{"mx:25", "mx:25", "[mx]:25", ""}, // a host of that name
		{"mx:example", "", "", "port"},
		{"mx:192.0.2.1", "", "", "no MX hosts"},
		{"mx:example.org:0", "", "", "between 1 and 65535"},
		{"mx:example.", "", "", "no domain name"},
		{"[fe80::1%eth0]:25", "", "", "neither"},
		{"mx:.", "", "", "no domain name"},
		{"mx:exa mple.org", "", "", "no domain name"},
		{"mx:[192.0.2.1]", "", "", "no domain name"},
		{"example.org", "", "", "HOST:PORT"},
		{"example.org:65536", "", "", "between 1 and 65535"},
		{"exa mple:25", "", "", "neither"},
		{"", "", "", "HOST:PORT"},
	}
	for _, tt := range tests {
		h, err := Parse(tt.in)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%q: %+v, %v; want an error with %q", tt.in, h, err, tt.err)
			}
			continue
		}
		if err != nil || h.String() != tt.canonical || h.Postfix() != tt.postfix {
			t.Errorf("%q: %q, %q, %v; want %q, %q", tt.in, h, h.Postfix(), err, tt.canonical, tt.postfix)
		}
		if again, err := Parse(h.String()); err != nil || again != h {
			t.Errorf("%q is read back as %+v, %v", h, again, err)
		}
	}
}

func TestHostsWithoutMX(t *testing.T) {
	t.Parallel()
	got, err := Hosts(t.Context(), "[2001:db8::1]:25")
	if err != nil || len(got) != 1 || got[0] != "[2001:db8::1]:25" {
		t.Errorf("%q, %v", got, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("mx:example.org:25")
	f.Add("[::1]:25")
	f.Fuzz(func(t *testing.T, s string) {
		h, err := Parse(s)
		if err != nil {
			return
		}
		if strings.ContainsAny(h.Postfix(), ", \t\r\n") {
			t.Errorf("%q: next hop %q is more than one", s, h.Postfix())
		}
		if again, err := Parse(h.String()); err != nil || again != h {
			t.Errorf("%q: %+v is read back as %+v, %v", s, h, again, err)
		}
	})
}
