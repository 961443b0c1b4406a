package socketmap

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"understudy/internal/directory"
	"understudy/policyd/policytest"
)

const portal = "lmtp:unix:private/dovecot-lmtp"

func emergency(d *policytest.Domain) { d.Mode = directory.Emergency }

func selected(d *policytest.Domain) {
	d.Scope, d.Uncovered = directory.ScopeSelected, []string{"sven"}
}

func manual(d *policytest.Domain) { d.Activation = directory.Manual }

func observe(d *policytest.Domain) { d.Activation = directory.Observe }

// ask returns the reply to a lookup, without its netstring.
func ask(t testing.TB, dir *directory.Directory, name, key string) string {
	t.Helper()
	wire := string((&Maps{Directory: dir, PortalTransport: portal}).answer(Query{Map: name, Key: key}).Bytes)
	length, rest, _ := strings.Cut(wire, ":")
	text, ok := strings.CutSuffix(rest, ",")
	if !ok || length != fmt.Sprint(len(text)) {
		t.Fatalf("reply %q is no netstring", wire)
	}
	return text
}

func TestTransport(t *testing.T) {
	t.Parallel()
	const hop = "[192.0.2.1]:25,[192.0.2.2]:2525"
	const auto, hold = "OK relay-auto:" + hop, "OK relay-hold:" + hop
	type change = func(*policytest.Domain)
	tests := []struct {
		name   string
		domain []change
		key    string
		want   string
	}{
		{"foreign", nil, "x@elsewhere.test", "NOTFOUND "},
		{"start of Postfix", nil, "*", "NOTFOUND "},
		{"empty", nil, "", "NOTFOUND "},
		{"not an address", nil, "root", "NOTFOUND "},
		{"double-bounce", nil, "double-bounce@mx.provider.test", "NOTFOUND "},
		{"broken domain", nil, "ana@exa mple.test", "NOTFOUND "},

		{"registered, automatic", nil, "ana@example.test", auto},
		{"as sent", nil, "ANA+Lists@Example.TEST", auto},
		{"quoted", nil, `"ana"@example.test`, auto},
		{"alias", nil, "info@example.test", auto},
		{"unregistered", nil, "dora@example.test", hold},
		{"bare domain", nil, "example.test", hold},
		{"odd local part", nil, "a*b@example.test", hold},
		{"local part with a blank", nil, `"a b"@example.test`, hold},
		{"manual", []change{manual}, "ana@example.test", hold},
		{"observe", []change{observe}, "ana@example.test", hold},
		{"selected, covered", []change{selected}, "ana@example.test", auto},
		{"selected, not covered", []change{selected}, "sven@example.test", hold},

		{"emergency, registered", []change{emergency}, "ana@example.test", "OK " + portal},
		{"emergency, alias with detail", []change{emergency}, "info+x@example.test", "OK " + portal},
		{"emergency, manual", []change{emergency, manual}, "ana@example.test", "OK " + portal},
		{"emergency, unregistered", []change{emergency}, "dora@example.test", hold},
		{"emergency, selected, not covered", []change{emergency, selected}, "sven@example.test", hold},
		{"emergency, bare domain", []change{emergency}, "example.test", hold},
	}
	for _, tt := range tests {
		domain := policytest.Example()
		for _, c := range tt.domain {
			domain = domain.With(c)
		}
		if got := ask(t, policytest.Directory(domain), "transport", tt.key); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestNoUsablePrimaryDefers(t *testing.T) {
	t.Parallel()
	dir := policytest.Directory(policytest.Example().With(func(d *policytest.Domain) { d.Primaries = []string{"without-port"} }))
	for _, name := range []string{"transport", "probe"} {
		if got := ask(t, dir, name, "ana@example.test"); !strings.HasPrefix(got, "TEMP ") {
			t.Errorf("%s: got %q, want TEMP", name, got)
		}
	}
}

func TestOtherMaps(t *testing.T) {
	t.Parallel()
	dir := policytest.Directory(policytest.Example().With(emergency), policytest.Example().With(func(d *policytest.Domain) {
		d.Name, d.Covered, d.Aliases = "xn--exmple-cua.test", []string{"usér", `"a, ana@example.test ,b"`}, nil
	}), policytest.Example().With(func(d *policytest.Domain) {
		d.Name, d.Accounts = "accounts.test", []string{"relay-1", "relay-2"}
		d.Covered, d.Aliases, d.Refused = []string{"ana", "refused", "known"}, map[string]string{"alias": "known"}, []string{"refused", "alias"}
	}))
	const probe = "OK probe:[192.0.2.1]:25,[192.0.2.2]:2525"
	tests := []struct{ name, key, want string }{
		{"relay_domains", "example.test", "OK example.test"},
		{"relay_domains", "EXAMPLE.test.", "OK example.test"},
		{"relay_domains", "exämple.test", "OK xn--exmple-cua.test"},
		{"relay_domains", "sub.example.test", "NOTFOUND "},
		{"relay_domains", "elsewhere.test", "NOTFOUND "},
		{"relay_domains", ".example.test", "NOTFOUND "},
		{"relay_domains", "*", "NOTFOUND "},
		{"relay_domains", "", "NOTFOUND "},

		{"probe", "ana@example.test", strings.Replace(probe, "probe:", "probe-auto:", 1)}, // also in an emergency
		{"probe", "dora@example.test", probe},
		{"probe", "refused@accounts.test", probe}, // by the primary's last word: nobody vouches for it
		{"probe", "alias@accounts.test", probe},
		{"probe", "known@accounts.test", strings.Replace(probe, "probe:", "probe-auto:", 1)},
		{"probe", "a*b@example.test", probe},
		{"probe", "x@elsewhere.test", "NOTFOUND "},
		{"probe", "*", "NOTFOUND "},

		{"sender_login", "ana@example.test", "OK ana@example.test"},
		{"sender_login", "Ana+News@Example.test", "OK ana@example.test"},
		{"sender_login", "info@example.test", "OK ana@example.test"},
		{"sender_login", "info+x@example.test", "OK ana@example.test"},
		{"sender_login", "USÉR@exämple.test", "OK usér@xn--exmple-cua.test"},
		{"sender_login", "dora@example.test", "OK " + Nobody},
		{"sender_login", "ana*x@example.test", "OK " + Nobody},
		{"sender_login", "@example.test", "OK " + Nobody},
		{"sender_login", `"a, ana@example.test ,b"@exämple.test`, "OK " + Nobody},
		{"sender_login", "x@elsewhere.test", "NOTFOUND "},
		{"sender_login", "", "NOTFOUND "},

		{"sender_login", "ana@accounts.test", "OK ana@accounts.test,relay-1,relay-2"},
		{"sender_login", "any.one+x@ACCOUNTS.test", "OK relay-1,relay-2"},
		{"sender_login", `"a b"@accounts.test`, "OK relay-1,relay-2"},
		{"sender_login", "@accounts.test", "OK relay-1,relay-2"},

		{"virtual", "ana@example.test", "PERM no such map"},
		{"", "ana@example.test", "PERM no such map"},
	}
	for _, tt := range tests {
		if got := ask(t, dir, tt.name, tt.key); got != tt.want {
			t.Errorf("%s %q: got %q, want %q", tt.name, tt.key, got, tt.want)
		}
	}
}

func TestNotLoadedIsTemporary(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"transport", "relay_domains", "probe", "sender_login"} {
		for _, key := range []string{"ana@example.test", "example.test", "*", ""} {
			if got := ask(t, directory.New(), name, key); !strings.HasPrefix(got, "TEMP ") {
				t.Errorf("%s %q: got %q, want TEMP", name, key, got)
			}
		}
	}
	if got := ask(t, directory.New(), "virtual", "x"); !strings.HasPrefix(got, "PERM ") {
		t.Errorf("unknown map: got %q, want PERM", got)
	}
}

func TestReplyIsBounded(t *testing.T) {
	t.Parallel()
	dir := policytest.Directory(policytest.Example().With(func(d *policytest.Domain) {
		d.Primaries = slices.Repeat([]string{strings.Repeat("a", 60) + ".test:25"}, maxReplyBytes/60)
	}))
	if got := ask(t, dir, "transport", "ana@example.test"); got != "TEMP reply too long" {
		t.Errorf("got %.64q", got)
	}
}

// BenchmarkTransport looks up recipients among a hundred thousand mailboxes.
func BenchmarkTransport(b *testing.B) {
	domain := policytest.Example()
	for i := range 100_000 {
		domain.Covered = append(domain.Covered, fmt.Sprintf("user%d", i))
	}
	maps := &Maps{Directory: policytest.Directory(domain), PortalTransport: portal}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			key := fmt.Sprintf("User%d+x@Example.test", i%100_000)
			if a := maps.answer(Query{Map: "transport", Key: key}); a.Label != "primary-auto" {
				b.Errorf("%s: %s", key, a.Bytes)
			}
		}
	})
}
