package delivery_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf8"

	"understudy/internal/delivery"
)

// server answers SMTP by a script: the reply to a command, by its name. ""
// is the greeting, "." the reply to the final dot. "drop" closes the
// connection, "hang" says nothing more, "flood NNN" says it without end. What
// is missing is accepted.
type server struct {
	addr   string
	script map[string]string
	hung   chan struct{} // closed at the first "hang"

	hanging sync.Once
	mu      sync.Mutex
	seen    []string // commands
}

func serve(t *testing.T, script map[string]string) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{addr: l.Addr().String(), script: script, hung: make(chan struct{})}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				defer context.AfterFunc(ctx, func() { conn.Close() })()
				s.talk(ctx, conn)
			})
		}
	})
	return s
}

func (s *server) talk(ctx context.Context, conn net.Conn) {
	r := bufio.NewReader(conn)
	accepted := map[string]string{"": "220 ready", "EHLO": "250-me\r\n250 SIZE 1000", "DATA": "354 go on", "QUIT": "221 bye"}
	for command, data := "", false; ; {
		if !data || command == "." {
			reply, ok := s.script[command]
			if !ok {
				if reply = accepted[command]; reply == "" {
					reply = "250 2.0.0 ok"
				}
			}
			switch reply {
			case "drop":
				return
			case "hang":
				s.hanging.Do(func() { close(s.hung) })
				<-ctx.Done()
				return
			}
			if code, ok := strings.CutPrefix(reply, "flood "); ok {
				lines := strings.Repeat(code+"-and so on\r\n", 1000)
				for {
					if _, err := io.WriteString(conn, lines); err != nil {
						return
					}
				}
			}
			fmt.Fprintf(conn, "%s\r\n", reply)
			data = command == "DATA" && strings.HasPrefix(reply, "3")
		}
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSuffix(line, "\r\n")
		if command = "data"; !data || line == "." {
			command, _, _ = strings.Cut(line, " ")
			s.mu.Lock()
			s.seen = append(s.seen, line)
			s.mu.Unlock()
		}
	}
}

func (s *server) saw(command string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range s.seen {
		if strings.HasPrefix(line, command) {
			return true
		}
	}
	return false
}

// patient waits as long as the worker does: replies come late on a busy
// machine.
func patient() *delivery.Client { return &delivery.Client{Helo: "worker.test"} }

func TestFailures(t *testing.T) {
	t.Parallel()
	type want struct {
		stage                          delivery.Stage
		code                           int
		temporary, unknown, serverWide bool
	}
	tests := []struct {
		name   string
		script map[string]string
		want   want
	}{
		{"421 greeting", map[string]string{"": "421 4.3.2 full"}, want{delivery.StageGreeting, 421, true, false, true}},
		{"554 greeting", map[string]string{"": "554 go away"}, want{delivery.StageGreeting, 554, true, false, true}},
		{"no greeting", map[string]string{"": "hang"}, want{delivery.StageGreeting, 0, true, false, true}},
		{"garbage greeting", map[string]string{"": "SSH-2.0"}, want{delivery.StageGreeting, 0, true, false, true}},
		{"EHLO 550", map[string]string{"EHLO": "550 5.7.1 no"}, want{delivery.StageEhlo, 550, true, false, true}},
		{"EHLO drop", map[string]string{"EHLO": "drop"}, want{delivery.StageEhlo, 0, true, false, true}},
		{"MAIL 451", map[string]string{"MAIL": "451 4.3.0 later"}, want{delivery.StageMail, 451, true, false, false}},
		{"MAIL 550", map[string]string{"MAIL": "550 5.7.1 sender"}, want{delivery.StageMail, 550, false, false, false}},
		{"RCPT 450", map[string]string{"RCPT": "450 4.2.0 greylisted"}, want{delivery.StageRcpt, 450, true, false, false}},
		{"RCPT 421", map[string]string{"RCPT": "421 4.3.0 closing"}, want{delivery.StageRcpt, 421, true, false, true}},
		{"RCPT 550", map[string]string{"RCPT": "550 5.1.1 who"}, want{delivery.StageRcpt, 550, false, false, false}},
		{"RCPT drop", map[string]string{"RCPT": "drop"}, want{delivery.StageRcpt, 0, true, false, true}},
		{"DATA 451", map[string]string{"DATA": "451 later"}, want{delivery.StageData, 451, true, false, false}},
		{"DATA hang", map[string]string{"DATA": "hang"}, want{delivery.StageData, 0, true, false, true}},
		{"dot 451", map[string]string{".": "451 4.3.0 later"}, want{delivery.StageDone, 451, true, false, false}},
		{"dot 554", map[string]string{".": "554 5.6.0 spam"}, want{delivery.StageDone, 554, false, false, false}},
		{"dot drop", map[string]string{".": "drop"}, want{delivery.StageDone, 0, true, true, true}},
		{"dot hang", map[string]string{".": "hang"}, want{delivery.StageDone, 0, true, true, true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, tt.script)
			c := patient()
			if tt.script["."] == "hang" {
				c.Timeouts.DataDone = 300 * time.Millisecond
			} else if g := tt.script[""]; g == "hang" || g == "SSH-2.0" || tt.script["DATA"] == "hang" {
				c.Timeouts.Command = 4 * time.Second // of the replies before it, too
			}
			r := deliver(t, c, s.addr, "Subject: x\r\n\r\n.dot\r\n", "ana@example.test")
			e := r[0].Err
			if len(r) != 1 || e == nil {
				t.Fatalf("got %+v", r)
			}
			if got := (want{e.Stage, e.Code, e.Temporary, e.Unknown, e.ServerWide()}); got != tt.want {
				t.Errorf("got %+v, want %+v (%v)", got, tt.want, e)
			}
			if e.Host != s.addr {
				t.Errorf("host %q", e.Host)
			}
		})
	}
}

func TestNextHost(t *testing.T) {
	t.Parallel()
	full, refuses, works := serve(t, map[string]string{"": "421 full"}), serve(t, map[string]string{"RCPT": "550 5.1.1 no"}), serve(t, nil)
	m := func() delivery.Message {
		return delivery.Message{Sender: "", Recipients: []string{"ana@example.test"}, Body: strings.NewReader("x\r\n"), Size: 3}
	}
	gone := "127.0.0.1:1"
	if r := patient().Deliver(t.Context(), []string{gone, full.addr, works.addr}, m()); r[0].Err != nil || r[0].Host != works.addr {
		t.Errorf("third of three: %+v", r[0])
	}
	if !works.saw("MAIL FROM:<> SIZE=3") {
		t.Errorf("commands %q", works.seen)
	}
	if r := patient().Deliver(t.Context(), []string{refuses.addr, works.addr}, m()); r[0].Err == nil || r[0].Err.Code != 550 {
		t.Errorf("a refusal is final: %+v", r[0])
	}
	if r := patient().Deliver(t.Context(), []string{gone}, m()); r[0].Err == nil || r[0].Err.Stage != delivery.StageConnect || !r[0].Err.ServerWide() {
		t.Errorf("nobody there: %+v", r[0])
	}
	if r := patient().Deliver(t.Context(), nil, m()); r[0].Err == nil || !r[0].Err.Temporary {
		t.Errorf("no host: %+v", r[0])
	}
	// After the body was sent no other host may get it.
	lost, next := serve(t, map[string]string{".": "drop"}), serve(t, nil)
	if r := patient().Deliver(t.Context(), []string{lost.addr, next.addr}, m()); r[0].Err == nil || !r[0].Err.Unknown || next.saw("EHLO") {
		t.Errorf("after the dot: %+v, next host saw %q", r[0], next.seen)
	}
}

// TestHalfAMessageIsNoMessage: when the source breaks, the final dot must not
// be sent.
func TestHalfAMessageIsNoMessage(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	broken := errors.New("IMAP connection lost")
	r := patient().Deliver(t.Context(), []string{s.addr}, delivery.Message{Recipients: []string{"ana@example.test"},
		Body: io.MultiReader(strings.NewReader("half\r\n"), iotest.ErrReader(broken))})
	e := r[0].Err
	if e == nil || e.Stage != delivery.StageSource || !e.Temporary || e.Unknown || !errors.Is(e, broken) || e.ServerWide() {
		t.Errorf("got %+v", e)
	}
	if s.saw(".") {
		t.Error("the message was completed")
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"", "RCPT", "DATA"} {
		s := serve(t, map[string]string{command: "hang"})
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		began := time.Now()
		c := &delivery.Client{} // waits of minutes
		r := c.Deliver(ctx, []string{s.addr}, delivery.Message{Recipients: []string{"ana@example.test"}, Body: strings.NewReader("x\r\n")})
		cancel()
		if r[0].Err == nil || !errors.Is(r[0].Err, context.DeadlineExceeded) || r[0].Err.Unknown || time.Since(began) > time.Minute {
			t.Errorf("%q hangs: %+v after %s", command, r[0].Err, time.Since(began))
		}
	}
}

// TestCancelAfterDot: the answer to the final dot is waited for.
func TestCancelAfterDot(t *testing.T) {
	t.Parallel()
	s := serve(t, map[string]string{".": "hang"})
	c := patient()
	c.Timeouts.DataDone = time.Second
	ctx, cancel := context.WithCancel(t.Context())
	began := time.Now()
	defer cancel()
	go func() {
		<-s.hung
		cancel()
	}()
	r := c.Deliver(ctx, []string{s.addr}, delivery.Message{Recipients: []string{"ana@example.test"}, Body: strings.NewReader("x\r\n")})
	if r[0].Err == nil || !r[0].Err.Unknown || time.Since(began) < time.Second {
		t.Errorf("%+v after %s", r[0].Err, time.Since(began))
	}
}

func TestStallIsBounded(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	defer close(done)
	go func() { // a server that stops reading within DATA
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "220 me\r\n")
		r := bufio.NewReader(conn)
		for {
			line, err := r.ReadString('\n')
			switch {
			case err != nil:
				return
			case line == "DATA\r\n":
				fmt.Fprint(conn, "354 go on\r\n")
				<-done
				return
			default:
				fmt.Fprint(conn, "250 ok\r\n")
			}
		}
	}()
	c := patient()
	c.Timeouts.Stall = 300 * time.Millisecond
	r := c.Deliver(t.Context(), []string{l.Addr().String()}, delivery.Message{Recipients: []string{"ana@example.test"},
		Body: io.LimitReader(endless{}, 64<<20)})
	if e := r[0].Err; e == nil || e.Stage != delivery.StageContent || !e.Temporary || e.Unknown {
		t.Errorf("got %+v", e)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return copy(p, "a line of text\r\n"), nil }

func TestAddresses(t *testing.T) {
	t.Parallel()
	modern := serve(t, map[string]string{"EHLO": "250-me\r\n250 SMTPUTF8"})
	plain := serve(t, nil)
	for _, tt := range []struct {
		host, address string
		enhanced      string // "": accepted
		line          string
	}{
		{plain.addr, `"a b>"@example.test`, "", `RCPT TO:<"a b>"@example.test>`},
		{plain.addr, "usér@example.test", "5.6.7", ""},
		{modern.addr, "usér@example.test", "", "RCPT TO:<usér@example.test>"},
		{plain.addr, "a> SIZE=1@example.test", "5.1.3", ""},
		{plain.addr, "a\r\nRCPT TO:<b@example.test>", "5.1.3", ""},
		{plain.addr, `"open@example.test`, "5.1.3", ""},
		{plain.addr, strings.Repeat("x", 600) + "@example.test", "5.1.3", ""},
	} {
		r := deliver(t, patient(), tt.host, "x\r\n", tt.address)
		switch e := r[0].Err; {
		case tt.enhanced == "" && e != nil:
			t.Errorf("%q: %v", tt.address, e)
		case tt.enhanced != "" && (e == nil || e.Temporary || e.Enhanced != tt.enhanced):
			t.Errorf("%q: %+v, want %s", tt.address, e, tt.enhanced)
		}
		if s := map[string]*server{plain.addr: plain, modern.addr: modern}[tt.host]; tt.line != "" && !s.saw(tt.line) {
			t.Errorf("%q: commands %q", tt.address, s.seen)
		}
	}
	if !modern.saw("MAIL FROM:<sender@internet.test> SMTPUTF8") {
		t.Errorf("SMTPUTF8 was not asked for: %q", modern.seen)
	}
}

// TestStartTLSTrouble: plaintext when TLS does not come about, but never when
// it is required.
func TestStartTLSTrouble(t *testing.T) {
	t.Parallel()
	for name, reply := range map[string]string{"454": "454 4.7.0 no TLS now", "garbage": "220 go\r\nnot TLS"} {
		s := serve(t, map[string]string{"EHLO": "250-me\r\n250 STARTTLS", "STARTTLS": reply})
		if r := deliver(t, patient(), s.addr, "x\r\n", "ana@example.test"); r[0].Err != nil {
			t.Errorf("%s: %v", name, r[0].Err)
		}
		strict := patient()
		strict.RequireTLS = true
		if r := deliver(t, strict, s.addr, "x\r\n", "ana@example.test"); r[0].Err == nil || r[0].Err.Stage != delivery.StageTLS || !r[0].Err.Temporary {
			t.Errorf("%s, required: %+v", name, r[0].Err)
		}
	}
	strict := patient()
	strict.RequireTLS = true
	if r := deliver(t, strict, serve(t, nil).addr, "x\r\n", "ana@example.test"); r[0].Err == nil || r[0].Err.Stage != delivery.StageTLS {
		t.Errorf("not offered, required: %+v", r[0].Err)
	}
}

func TestHeloFallback(t *testing.T) {
	t.Parallel()
	s := serve(t, map[string]string{"EHLO": "502 what?"})
	if r := deliver(t, patient(), s.addr, "x\r\n", "ana@example.test"); r[0].Err != nil || !s.saw("HELO worker.test") {
		t.Errorf("%+v, commands %q", r[0], s.seen)
	}
}

func TestReplyTextIsMadeSafe(t *testing.T) {
	t.Parallel()
	s := serve(t, map[string]string{"RCPT": "550-5.1.1 two\r\n550 5.1.1 lines\x1b[31m \xff" + strings.Repeat("x", 1500)})
	e := deliver(t, patient(), s.addr, "x\r\n", "ana@example.test")[0].Err
	if e == nil || strings.ContainsAny(e.Text, "\n\x1b") || !utf8.ValidString(e.Text) || len(e.Text) > 510 || !strings.HasPrefix(e.Reply(), "550 5.1.1 two lines") {
		t.Errorf("got %+v", e)
	}
}

// TestEndlessReply: a reply without an end takes no memory without an end.
func TestEndlessReply(t *testing.T) {
	t.Parallel()
	for command, code := range map[string]string{"": "220", "EHLO": "250", "STARTTLS": "220", "MAIL": "250", "RCPT": "250", "DATA": "354", ".": "250"} {
		t.Run("after "+command, func(t *testing.T) {
			t.Parallel()
			script := map[string]string{command: "flood " + code}
			if command == "STARTTLS" {
				script["EHLO"] = "250-me\r\n250 STARTTLS"
			}
			s := serve(t, script)
			// The time is not what ends it.
			client := &delivery.Client{Helo: "worker.test", RequireTLS: command == "STARTTLS"}
			m := delivery.Message{Sender: "s@x.test", Recipients: []string{"a@example.test"}, Body: strings.NewReader("Subject: x\r\n\r\n")}
			r := client.Deliver(t.Context(), []string{s.addr}, m)[0]
			if r.Err == nil || !r.Err.Temporary || !strings.Contains(r.Err.Error(), "longer than 65536 bytes") {
				t.Errorf("got %+v", r.Err)
			}
		})
	}
}
