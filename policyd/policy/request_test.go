package policy

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"

	"understudy/policyd/policytest"
	"understudy/policyd/session"
)

func read(s string) (Request, error) {
	return Read(bufio.NewReaderSize(strings.NewReader(s), maxLineBytes))
}

func TestRead(t *testing.T) {
	t.Parallel()
	wire := policytest.NewRequest().Context("relay").Sender("a=b@x.test").Client("2001:db8::1").String()
	got, err := read(wire)
	want := Request{State: "RCPT", Context: "relay", ClientAddress: "2001:db8::1", ClientPort: "40000", ServerAddress: "127.0.0.1", ServerPort: "25", Sender: "a=b@x.test", Recipient: "ana@example.test"}
	if err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}

func TestReadSeveral(t *testing.T) {
	t.Parallel()
	first, second := policytest.NewRequest().Recipient("a@x.test"), policytest.NewRequest().Recipient("b@x.test")
	r := bufio.NewReaderSize(strings.NewReader(first.String()+second.String()), maxLineBytes)
	for _, want := range []string{"a@x.test", "b@x.test"} {
		if got, err := Read(r); err != nil || got.Recipient != want {
			t.Fatalf("got %q, %v; want %q", got.Recipient, err, want)
		}
	}
	if _, err := Read(r); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v, want EOF", err)
	}
}

func TestReadMalformed(t *testing.T) {
	t.Parallel()
	const head = "request=smtpd_access_policy\nprotocol_state=RCPT\n"
	tests := []struct{ name, wire string }{
		{"nothing", "\n"},
		{"no request attribute", "protocol_state=RCPT\n\n"},
		{"another request", "request=junk\nprotocol_state=RCPT\n\n"},
		{"no state", "request=smtpd_access_policy\n\n"},
		{"no equals sign", head + "recipient\n\n"},
		{"no name", head + "=x\n\n"},
		{"NUL", head + "recipient=a\x00b@x.test\n\n"},
		{"two recipients", head + "recipient=a@x.test\nrecipient=b@x.test\n\n"},
		{"CR LF", "request=smtpd_access_policy\r\nprotocol_state=RCPT\r\n\r\n"},
		{"long line", head + "recipient=" + strings.Repeat("a", maxLineBytes) + "\n\n"},
		{"endless line", strings.Repeat("a", 1<<20)},
		{"many attributes", head + strings.Repeat("x=y\n", maxAttributes) + "\n"},
		{"large", head + strings.Repeat("x="+strings.Repeat("y", 4000)+"\n", 20) + "\n"},
	}
	for _, tt := range tests {
		if got, err := read(tt.wire); !errors.Is(err, session.ErrMalformed) {
			t.Errorf("%s: got %+v, %v; want ErrMalformed", tt.name, got, err)
		}
	}
}

func TestReadTorn(t *testing.T) {
	t.Parallel()
	wire := policytest.NewRequest().String()
	for n := 1; n < len(wire); n++ {
		if _, err := read(wire[:n]); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("first %d bytes: %v, want unexpected EOF", n, err)
		}
	}
}

// FuzzRead checks that any bytes are read or refused within the bounds, and
// that whatever is read gets an answer of one safe line.
func FuzzRead(f *testing.F) {
	f.Add(policytest.NewRequest().String())
	f.Add(policytest.NewRequest().Context("relay").Client("127.0.0.2").Sender("a\xff@é").Recipient("x@elsewhere.test").String())
	f.Add(policytest.NewRequest().Context("reentry").Recipient("@example.test").String())
	f.Add("request=smtpd_access_policy\n\n")
	dir := policytest.Directory(policytest.Example().With(selected).With(emergency))
	f.Fuzz(func(t *testing.T, wire string) {
		in := strings.NewReader(wire)
		req, err := Read(bufio.NewReaderSize(in, maxLineBytes))
		if took := len(wire) - in.Len(); took > maxBytes+maxLineBytes {
			t.Fatalf("%d bytes taken for one request", took)
		}
		if err != nil {
			return
		}
		action := Decide(req, dir, never).Action
		for _, c := range []byte(action) {
			if c < ' ' || c > '~' {
				t.Fatalf("unsafe action %q", action)
			}
		}
		if len(action) > 300 || action == "" {
			t.Fatalf("action of %d bytes", len(action))
		}
		if req.Context == ContextReentry && strings.HasPrefix(action, "5") {
			t.Fatalf("re-entry refuses for good: %q", action)
		}
	})
}
