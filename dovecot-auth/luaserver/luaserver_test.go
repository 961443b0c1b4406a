package luaserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"understudy/dovecot-auth/account"
)

// answers gives answer to everything, and lists users.
type answers struct {
	answer account.Answer
	users  int
	err    error // after the users
	asked  []account.Attempt
	looked []string
}

func (a *answers) Login(_ context.Context, t account.Attempt) account.Answer {
	a.asked = append(a.asked, t)
	return a.answer
}

func (a *answers) Lookup(user string) account.Answer {
	a.looked = append(a.looked, user)
	return a.answer
}

func (a *answers) List(yield func(string) error) error {
	for n := range a.users {
		if err := yield(fmt.Sprintf("user%d@example.test", n)); err != nil {
			return err
		}
	}
	return a.err
}

// talk sends text and returns all that comes back until the server closes.
func talk(t *testing.T, a *answers, text string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		(&Server{Accounts: a, Log: slog.New(slog.DiscardHandler)}).Handle(context.Background(), c)
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(2 * time.Minute))
	io.WriteString(c, text)
	c.(*net.TCPConn).CloseWrite()
	reply, _ := io.ReadAll(c)
	<-done
	return string(reply)
}

func TestReplies(t *testing.T) {
	t.Parallel()
	ok := account.Answer{Account: account.Account{User: "ana@example.test", UID: 1, GID: 2, Home: "/m/example.test/a\tb", QuotaBytes: 3}}
	for _, tc := range []struct {
		name    string
		answer  account.Answer
		request string
		want    string
	}{
		{"OK", ok, "U\tana@example.test", "OK\tuser=ana@example.test\tuid=1\tgid=2\thome=/m/example.test/a\x01tb\tquota=3B\n"},
		{"unknown", account.Answer{Result: account.Unknown}, "P\tx", "UNKNOWN\n"},
		{"bad", account.Answer{Result: account.Bad}, "A\timap\t\tx\ty", "BAD\n"},
		{"locked", account.Answer{Result: account.Locked, Reason: "Wait.\n"}, "A\timap\t\tx\ty", "LOCKED\tWait.\x01n\n"},
		{"temporary", account.Answer{Result: account.Temporary, Reason: "not loaded"}, "U\tx", "TEMP\tnot loaded\n"},
		{"empty line", ok, "", "TEMP\tunknown request\n"},
		{"too many fields", ok, "U\tx\ty", "TEMP\tunknown request\n"},
		{"several", account.Answer{Result: account.Bad}, "U\tx\nU\ty\nL", "BAD\nBAD\nEND\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tc.want, talk(t, &answers{answer: tc.answer}, tc.request+"\n")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRequestIsUnescaped(t *testing.T) {
	t.Parallel()
	a := &answers{}
	talk(t, a, "A\timap\t::ffff:192.0.2.7\tx\x01ty\tp\x011w\x01n\nA\tpop3\tnowhere\tx\t\nU\tx\x01ty\n")
	want := []account.Attempt{{Service: "imap", IP: netip.MustParseAddr("::ffff:192.0.2.7"), User: "x\ty", Password: "p\x01w\n"},
		{Service: "pop3", User: "x"}}
	if diff := cmp.Diff(want, a.asked, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"x\ty"}, a.looked); diff != "" {
		t.Error(diff)
	}
}

func TestLongList(t *testing.T) {
	t.Parallel()
	got := talk(t, &answers{users: 10_000}, "L\n")
	if n := strings.Count(got, "u user"); n != 10_000 || !strings.HasSuffix(got, "u user9999@example.test\nEND\n") {
		t.Errorf("%d users, ending in %q", n, got[max(0, len(got)-60):])
	}
	// A part is never passed off as the whole.
	if got := talk(t, &answers{users: 10_000, err: errors.New("trouble")}, "L\nL\n"); strings.Contains(got, "END") {
		t.Error("END after an error")
	}
	if got := talk(t, &answers{err: errors.New("trouble")}, "L\n"); got != "TEMP\ttrouble\n" {
		t.Errorf("list: %q", got)
	}
}

func FuzzRequest(f *testing.F) {
	f.Add("A\timap\t127.0.0.1\tana@example.test\tsecret")
	f.Add("U\tana@example.test\nP\t\x01\nL\nQ")
	reply := regexp.MustCompile(`\A(OK\tuser=a\tuid=0\tgid=0\thome=\tquota=0B|TEMP\tunknown request|u user0@example.test\nEND)\n\z`)
	s := &Server{Accounts: &answers{users: 1, answer: account.Answer{Account: account.Account{User: "a"}}}, Log: slog.New(slog.DiscardHandler)}
	f.Fuzz(func(t *testing.T, line string) {
		if strings.ContainsAny(line, "\r\n") || len(line) > 4000 {
			return
		}
		client, server := net.Pipe()
		defer client.Close()
		go func() {
			defer server.Close()
			s.Handle(context.Background(), server)
		}()
		go io.WriteString(client, line+"\nQ\n")
		r := bufio.NewReader(client)
		got := ""
		for {
			l, err := r.ReadString('\n')
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			got += l
			if !strings.HasPrefix(l, "u ") {
				break
			}
		}
		if !reply.MatchString(got) {
			t.Errorf("%q gives %q", line, got)
		}
		if l, err := r.ReadString('\n'); l != "TEMP\tunknown request\n" {
			t.Errorf("after %q: %q, %v: replies are out of step", line, l, err)
		}
	})
}
