package saslserver

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"understudy/dovecot-auth/account"
)

// answers knows one mailbox; some names stand for other answers.
type answers struct{ asked []account.Attempt }

func (a *answers) Login(_ context.Context, t account.Attempt) account.Answer {
	a.asked = append(a.asked, t)
	switch {
	case t.User == "locked@example.test":
		return account.Answer{Result: account.Locked, Reason: "Try again in 2 minutes."}
	case t.User == "busy@example.test":
		return account.Answer{Result: account.Temporary, Reason: "busy"}
	case (t.User == "ana@example.test" || t.User == "sales@example.test") && t.Password == "secret":
		return account.Answer{Result: account.OK, Account: account.Account{User: "ana@example.test"}}
	}
	return account.Answer{Result: account.Bad}
}

func newServer(a Accounts) *Server {
	return &Server{Accounts: a, Log: slog.New(slog.DiscardHandler), Now: time.Now}
}

// talk sends lines to a new connection and returns all that came back, after
// the greeting.
func talk(t *testing.T, s *Server, lines ...string) string {
	t.Helper()
	client, server := net.Pipe()
	defer client.Close()
	go func() {
		defer server.Close()
		s.Handle(context.Background(), server)
	}()
	client.SetDeadline(time.Now().Add(2 * time.Minute))
	r := bufio.NewReader(client)
	for {
		l, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if l == "DONE\n" {
			break
		}
	}
	go func() {
		for _, l := range lines {
			if _, err := io.WriteString(client, l+"\n"); err != nil {
				return
			}
		}
		// Something that is answered marks the end.
		io.WriteString(client, "CONT\t4000000000\tZW5k\n")
	}()
	var b strings.Builder
	for {
		l, err := r.ReadString('\n')
		if err != nil {
			return b.String() + "closed"
		}
		if strings.HasPrefix(l, "FAIL\t4000000000\t") {
			return b.String()
		}
		b.WriteString(l)
	}
}

const hello = "VERSION\t1\t0\nCPID\t26318"

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// What Postfix 3.7 was seen to send, and what it was seen to understand.
func TestExactBytes(t *testing.T) {
	t.Parallel()
	const auth = "service=submission\tnologin\tlip=127.0.0.1\trip=192.0.2.7\tsecured"
	good := b64("\x00ana@example.test\x00secret")
	for _, tc := range []struct {
		name  string
		lines []string
		want  string
	}{
		{"PLAIN", []string{hello, "AUTH\t1\tPLAIN\t" + auth + "\tresp=" + good}, "OK\t1\tuser=ana@example.test\n"},
		{"PLAIN, alias", []string{hello, "AUTH\t1\tPLAIN\t" + auth + "\tresp=" + b64("\x00sales@example.test\x00secret")}, "OK\t1\tuser=ana@example.test\n"},
		{"PLAIN, own identity", []string{hello, "AUTH\t1\tPLAIN\tresp=" + b64("ana@example.test\x00ana@example.test\x00secret")}, "OK\t1\tuser=ana@example.test\n"},
		{"PLAIN, other identity", []string{hello, "AUTH\t1\tPLAIN\tresp=" + b64("root\x00ana@example.test\x00secret")}, "FAIL\t1\treason=Invalid authentication data\n"},
		{"PLAIN in two steps", []string{hello, "AUTH\t2\tPLAIN\t" + auth, "CONT\t2\t" + good}, "CONT\t2\t\nOK\t2\tuser=ana@example.test\n"},
		{"LOGIN", []string{hello, "AUTH\t2\tLOGIN\t" + auth, "CONT\t2\t" + b64("ana@example.test"), "CONT\t2\t" + b64("secret")},
			"CONT\t2\tVXNlcm5hbWU6\nCONT\t2\tUGFzc3dvcmQ6\nOK\t2\tuser=ana@example.test\n"},
		{"LOGIN, initial response", []string{hello, "AUTH\t3\tLOGIN\t" + auth + "\tresp=" + b64("ana@example.test"), "CONT\t3\t" + b64("secret")},
			"CONT\t3\tUGFzc3dvcmQ6\nOK\t3\tuser=ana@example.test\n"},
		{"wrong password", []string{hello, "AUTH\t4\tPLAIN\tresp=" + b64("\x00ana@example.test\x00wrong")}, "FAIL\t4\tuser=ana@example.test\n"},
		{"locked", []string{hello, "AUTH\t5\tPLAIN\tresp=" + b64("\x00locked@example.test\x00x")},
			"FAIL\t5\tuser=locked@example.test\treason=Try again in 2 minutes.\n"},
		{"name with control characters", []string{hello, "AUTH\t6\tPLAIN\tresp=" + b64("\x00a\tb\nOK\t6\x00x")}, "FAIL\t6\tuser=a\x01tb\x01nOK\x01t6\n"},
		{"truncated Base64", []string{hello, "AUTH\t7\tPLAIN\tresp=" + good[:len(good)-3]}, "FAIL\t7\treason=Invalid base64 data\n"},
		{"not Base64", []string{hello, "AUTH\t7\tLOGIN", "CONT\t7\t?"}, "CONT\t7\tVXNlcm5hbWU6\nFAIL\t7\treason=Invalid base64 data\n"},
		{"empty response", []string{hello, "AUTH\t7\tPLAIN\tresp="}, "FAIL\t7\treason=Invalid authentication data\n"},
		{"empty response as in RFC 4954", []string{hello, "AUTH\t7\tPLAIN\tresp=="}, "FAIL\t7\treason=Invalid authentication data\n"},
		{"two fields in PLAIN", []string{hello, "AUTH\t7\tPLAIN\tresp=" + b64("ana\x00secret")}, "FAIL\t7\treason=Invalid authentication data\n"},
		{"other mechanism", []string{hello, "AUTH\t8\tCRAM-MD5\t" + auth}, "FAIL\t8\treason=Unsupported authentication mechanism\n"},
		{"no mechanism", []string{hello, "AUTH\t8"}, "FAIL\t8\treason=Unsupported authentication mechanism\n"},
		{"cancelled", []string{hello, "AUTH\t9\tLOGIN", "CANCEL\t9", "CONT\t9\t" + b64("x")}, "CONT\t9\tVXNlcm5hbWU6\nFAIL\t9\treason=The exchange took too long\n"},
		{"same id again", []string{hello, "AUTH\t9\tLOGIN", "AUTH\t9\tPLAIN\tresp=" + good}, "CONT\t9\tVXNlcm5hbWU6\nOK\t9\tuser=ana@example.test\n"},
		{"after the end", []string{hello, "AUTH\t9\tPLAIN\tresp=" + good, "CONT\t9\t" + good}, "OK\t9\tuser=ana@example.test\nFAIL\t9\treason=The exchange took too long\n"},
		{"unknown command", []string{hello, "FUTURE\t1", "AUTH\t1\tPLAIN\tresp=" + good}, "OK\t1\tuser=ana@example.test\n"},
		{"trouble", []string{hello, "AUTH\t1\tPLAIN\tresp=" + b64("\x00busy@example.test\x00x")}, "closed"},
		{"trouble in LOGIN", []string{hello, "AUTH\t1\tLOGIN\tresp=" + b64("busy@example.test"), "CONT\t1\t" + b64("x")}, "CONT\t1\tUGFzc3dvcmQ6\nclosed"},
		{"no VERSION", []string{"AUTH\t1\tPLAIN\tresp=" + good}, "closed"},
		{"other VERSION", []string{"VERSION\t2\t0"}, "closed"},
		{"id is no number", []string{hello, "AUTH\t-1\tPLAIN\tresp=" + good}, "closed"},
		{"id is too large", []string{hello, "AUTH\t4294967296\tPLAIN\tresp=" + good}, "closed"},
		{"endless line", []string{hello, "AUTH\t1\tPLAIN\tresp=" + strings.Repeat("A", 9000)}, "closed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tc.want, talk(t, newServer(&answers{}), tc.lines...)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAttempt(t *testing.T) {
	t.Parallel()
	a := &answers{}
	talk(t, newServer(a), hello, "AUTH\t1\tPLAIN\tservice=submission\tnologin\tlip=::1\trip=2001:db8::7\tsecured\tresp="+b64("\x00ana@example.test\x00secret"),
		"AUTH\t2\tPLAIN\trip=bad\tresp="+b64("\x00ana@example.test\x00secret"))
	want := []account.Attempt{
		{Service: "submission", IP: netip.MustParseAddr("2001:db8::7"), User: "ana@example.test", Password: "secret", Sending: true},
		{User: "ana@example.test", Password: "secret", Sending: true},
	}
	if diff := cmp.Diff(want, a.asked, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Error(diff)
	}
}

func TestGreeting(t *testing.T) {
	t.Parallel()
	s := newServer(&answers{})
	form := regexp.MustCompile(`^VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tLOGIN\tplaintext\nSPID\t\d+\nCUID\t(\d+)\nCOOKIE\t([0-9a-f]{32})\nDONE\n$`)
	seen := map[string]bool{}
	for range 3 {
		m := form.FindStringSubmatch(s.greeting())
		if m == nil || seen[m[1]] || seen[m[2]] {
			t.Fatalf("greeting %q after %v", s.greeting(), seen)
		}
		seen[m[1]], seen[m[2]] = true, true
	}
}

// Cancelled exchanges are never continued: they must not pile up, and must
// not live on.
func TestPendingIsBounded(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	s := newServer(&answers{})
	s.Now = func() time.Time { return now }
	x := &session{server: s, version: true, pending: map[uint32]*exchange{}, ctx: t.Context()}
	say := func(line string) string {
		t.Helper()
		reply, err := x.command(line)
		if err != nil {
			t.Fatal(err)
		}
		return reply
	}
	for id := range 1000 {
		say(fmt.Sprintf("AUTH\t%d\tLOGIN", id))
		now = now.Add(time.Millisecond)
	}
	if len(x.pending) != pendingMax {
		t.Errorf("%d exchanges are pending, want %d", len(x.pending), pendingMax)
	}
	if got := say("CONT\t0\t" + b64("ana")); !strings.HasPrefix(got, "FAIL\t0\t") {
		t.Errorf("the oldest: %q", got)
	}
	if got := say("CONT\t999\t" + b64("ana")); got != "CONT\t999\tUGFzc3dvcmQ6\n" {
		t.Errorf("the newest: %q", got)
	}
	now = now.Add(pendingLife + time.Second)
	if got := say("CONT\t999\t" + b64("secret")); !strings.HasPrefix(got, "FAIL\t999\t") || len(x.pending) != 0 {
		t.Errorf("after its time: %q, %d are pending", got, len(x.pending))
	}
}

// Postfix keeps an idle connection for 300 s.
func TestIdleConnectionIsKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer client.Close()
		go newServer(&answers{}).Handle(t.Context(), server)
		r := bufio.NewReader(client)
		for l := ""; l != "DONE\n"; {
			l, _ = r.ReadString('\n')
		}
		<-time.After(10 * time.Minute)
		io.WriteString(client, hello+"\nAUTH\t1\tPLAIN\tresp="+b64("\x00ana@example.test\x00secret")+"\n")
		if l, err := r.ReadString('\n'); !strings.HasPrefix(l, "OK\t1\t") {
			t.Errorf("%q, %v", l, err)
		}
	})
}

func TestLoginMechanismEnds(t *testing.T) {
	t.Parallel()
	s := newLoginServer(func(string, string) error { return nil })
	for n, in := range [][]byte{nil, []byte("ana"), []byte("secret")} {
		if _, done, err := s.Next(in); err != nil || done != (n == 2) {
			t.Fatalf("step %d: done %v, %v", n, done, err)
		}
	}
	if _, _, err := s.Next([]byte("more")); err == nil {
		t.Error("a fourth step is accepted")
	}
}

func FuzzSession(f *testing.F) {
	good := b64("\x00ana@example.test\x00secret")
	f.Add("AUTH\t1\tPLAIN\tservice=smtp\trip=127.0.0.1\tresp=" + good)
	f.Add("AUTH\t2\tLOGIN\nCONT\t2\t" + b64("ana@example.test") + "\nCONT\t2\t" + b64("secret"))
	f.Add("VERSION\t1\t1\nCPID\t1\nCANCEL\t2\nAUTH\t\nCONT\nAUTH\t3\tPLAIN\t\t=\tresp")
	reply := regexp.MustCompile(`\A(OK|FAIL|CONT)\t\d+(\t[^\t\r\n\x00]*)*\n\z`)
	f.Fuzz(func(t *testing.T, text string) {
		a := &answers{}
		x := &session{server: newServer(a), version: true, pending: map[uint32]*exchange{}, ctx: t.Context()}
		for line := range strings.SplitSeq(text, "\n") {
			got, err := x.command(line)
			if err != nil {
				return
			}
			if got != "" && !reply.MatchString(got) {
				t.Fatalf("%q gives %q", line, got)
			}
			if strings.HasPrefix(got, "OK\t") && (len(a.asked) == 0 || a.asked[len(a.asked)-1].Password != "secret") {
				t.Fatalf("%q gives %q without the password", line, got)
			}
			if len(x.pending) > pendingMax {
				t.Fatalf("%d exchanges are pending", len(x.pending))
			}
		}
	})
}
