package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"understudy/internal/archive"
	"understudy/internal/directory"
)

func TestDecide(t *testing.T) {
	t.Parallel()
	dir := testDirectory()
	const own, stranger = "192.0.2.3", "198.51.100.9"
	for _, c := range []struct {
		name       string
		from       origin
		recipients []string
		direction  archive.Direction
		covered    bool
		mailboxes  []string
	}{
		{"inbound to a mailbox", origin{client: stranger, sender: "x@example.org"}, []string{"ana@example.test"}, archive.Inbound, true, []string{"ana@example.test"}},
		{"case, detail and alias resolved", origin{client: stranger, sender: "x@example.org"},
			[]string{"Sales+q3@EXAMPLE.test", "ANA@example.test", "bruno@example.test"}, archive.Inbound, true, []string{"ana@example.test", "bruno@example.test"}},
		{"covered, not registered", origin{client: stranger}, []string{"New.One+x@Example.Test"}, archive.Inbound, true, []string{"new.one@example.test"}},
		{"not covered", origin{client: stranger, sender: "x@example.org"}, []string{"plain@selected.test", "nobody@selected.test", "y@example.net"}, archive.Inbound, false, nil},
		{"selected and covered", origin{client: stranger}, []string{"plain@selected.test", "covered@selected.test"}, archive.Inbound, true, []string{"covered@selected.test"}},
		{"a stranger's word for the sender", origin{client: stranger, sender: "ana@example.test"}, []string{"y@example.net"}, archive.Inbound, false, nil},
		{"a stranger's word, to us", origin{client: stranger, sender: "ana@example.test"}, []string{"bruno@example.test"}, archive.Inbound, true, []string{"bruno@example.test"}},
		{"outbound from the primary", origin{client: own, sender: "ana@example.test"}, []string{"y@example.net"}, archive.Outbound, true, []string{"ana@example.test"}},
		{"outbound from the primary by alias", origin{client: own, sender: "sales@example.test"}, []string{"y@example.net"}, archive.Outbound, true, []string{"ana@example.test"}},
		{"outbound from the primary, IPv6", origin{client: "2001:db8::1", sender: "ana@example.test"}, []string{"y@example.net"}, archive.Outbound, true, []string{"ana@example.test"}},
		{"outbound, Postfix's notation of IPv6", origin{client: "IPv6:2001:db8::1", sender: "ana@example.test"}, []string{"y@example.net"}, archive.Outbound, true, []string{"ana@example.test"}},
		{"outbound from the primary, unregistered", origin{client: own, sender: "printer@example.test"}, []string{"y@example.net"}, archive.Outbound, true, []string{"printer@example.test"}},
		{"another customer's primary", origin{client: own, sender: "covered@selected.test"}, []string{"y@example.net"}, archive.Inbound, false, nil},
		{"outbound, mixed", origin{client: own, sender: "ana@example.test"}, []string{"y@example.net", "bruno@example.test"}, archive.Outbound, true, []string{"ana@example.test", "bruno@example.test"}},
		{"internal", origin{client: own, sender: "ana@example.test"}, []string{"bruno@example.test", "plain@selected.test"}, archive.Internal, true, []string{"ana@example.test", "bruno@example.test"}},
		{"outbound of a mailbox that is not covered", origin{client: "192.0.2.20", sender: "plain@selected.test"}, []string{"y@example.net"}, archive.Outbound, false, nil},
		{"internal, only the recipient covered", origin{client: "192.0.2.20", sender: "plain@selected.test"}, []string{"ana@example.test"}, archive.Internal, true, []string{"ana@example.test"}},
		{"login", origin{client: stranger, login: "ana@example.test", sender: "ana@example.test"}, []string{"y@example.net"}, archive.Outbound, true, []string{"ana@example.test"}},
		{"login, null sender", origin{client: stranger, login: "Ana@Example.test"}, []string{"y@example.net"}, archive.Outbound, true, []string{"ana@example.test"}},
		{"login, internal", origin{client: stranger, login: "ana@example.test", sender: "ana@example.test"}, []string{"bruno@example.test"}, archive.Internal, true, []string{"ana@example.test", "bruno@example.test"}},
		{"login of nobody", origin{client: stranger, login: "ghost@example.test", sender: "ana@example.test"}, []string{"y@example.net"}, archive.Inbound, false, nil},
		{"login without domain", origin{client: stranger, login: "root"}, []string{"y@example.net"}, archive.Inbound, false, nil},
		{"outbound account", origin{client: stranger, login: "Relay-1", sender: "Ana+x@example.test"}, []string{"y@example.net"}, archive.Outbound, true, []string{"ana@example.test"}},
		{"outbound account, unregistered sender", origin{client: stranger, login: "relay-1", sender: "robot@example.test"}, []string{"y@example.net"}, archive.Outbound, true, []string{"robot@example.test"}},
		{"outbound account, null sender", origin{client: stranger, login: "relay-1"}, []string{"y@example.net"}, archive.Outbound, false, nil},
		{"outbound account, internal", origin{client: stranger, login: "relay-1", sender: "ana@example.test"}, []string{"bruno@example.test"}, archive.Internal, true, []string{"ana@example.test", "bruno@example.test"}},
		{"outbound account, not its sender", origin{client: stranger, login: "relay-1", sender: "covered@selected.test"}, []string{"y@example.net"}, archive.Inbound, false, nil},
		{"outbound account, not enabled", origin{client: stranger, login: "relay-off", sender: "ana@example.test"}, []string{"y@example.net"}, archive.Inbound, false, nil},
		{"null sender from the primary", origin{client: own}, []string{"y@example.net"}, archive.Inbound, false, nil},
		{"odd addresses", origin{client: own, sender: "a@b@"}, []string{"\xff@example.test", "", "@", "ana", "ana@example.test"}, archive.Inbound, true, []string{"ana@example.test"}},
		{"odd recipient keeps it outbound", origin{client: own, sender: "ana@example.test"}, []string{"bruno@example.test", "<>x"}, archive.Outbound, true, []string{"ana@example.test", "bruno@example.test"}},
		{"no recipients", origin{client: own, sender: "y@example.net"}, nil, archive.Inbound, false, nil},
		{"odd client", origin{client: "unknown", sender: "ana@example.test"}, []string{"y@example.net"}, archive.Inbound, false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := decide(dir, c.from, c.recipients)
			got.route = nil // TestRoute
			want := verdict{direction: c.direction, covered: c.covered, mailboxes: c.mailboxes}
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(verdict{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestRoute: where mail goes is kept as it was when it came.
func TestRoute(t *testing.T) {
	t.Parallel()
	normal, emergency := testDirectory(), testDirectory()
	emergency.Apply(&directory.Change{Epoch: "test", Version: 2, Domains: []*directory.Domain{
		{ID: 1, Name: "example.test", Scope: directory.ScopeAll, Mode: directory.Emergency}}})
	for _, c := range []struct {
		name              string
		recipients        []string
		normal, emergency string
	}{
		{"a mailbox", []string{"ana@example.test"}, "primary", "portal"},
		{"an alias and another mailbox", []string{"sales@example.test", "bruno@example.test"}, "primary", "portal"},
		{"not registered", []string{"dora@example.test"}, "primary", "primary"},
		{"another domain", []string{"covered@selected.test"}, "primary", "primary"},
		{"a stranger", []string{"x@example.net"}, "internet", "internet"},
		{"no address", []string{"<>x"}, "internet", "internet"},
		{"all of them", []string{"x@example.net", "ana@example.test", "dora@example.test", "y@example.net"}, "primary internet", "primary portal internet"},
		{"nobody", nil, "", ""},
	} {
		for dir, want := range map[*directory.Directory]string{normal: c.normal, emergency: c.emergency} {
			if got := strings.Join(decide(dir, origin{}, c.recipients).route, " "); got != want {
				t.Errorf("%s: %q, want %q", c.name, got, want)
			}
		}
	}
}

// FuzzMessage checks on any pieces what TestByteExact shows on real mail: no
// byte is lost, and only line ends inside of header fields change.
func FuzzMessage(f *testing.F) {
	f.Add("Subject", " a\n b\r\n\tc", []byte("body\r\n\nx"))
	f.Add("", "", []byte(nil))
	f.Fuzz(func(t *testing.T, name, value string, body []byte) {
		m := &message{spool: archive.NewSpool(t.TempDir(), 1<<20)}
		defer m.spool.Close()
		m.header(name, value)
		m.endOfHeader()
		m.body(body)
		if m.err != nil {
			if len(name)+2*len(value)+len(body)+5 < 1<<20 {
				t.Fatal(m.err)
			}
			return
		}
		var got bytes.Buffer
		if _, err := m.spool.WriteTo(&got); err != nil {
			t.Fatal(err)
		}
		want := name + ":" + strings.ReplaceAll(strings.ReplaceAll(value, "\r\n", "\n"), "\n", "\r\n") + "\r\n\r\n" + string(body)
		if got.String() != want {
			t.Errorf("got %q, want %q", got.String(), want)
		}
	})
}
