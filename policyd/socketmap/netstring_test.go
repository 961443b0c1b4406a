package socketmap

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"

	"understudy/policyd/policytest"
	"understudy/policyd/session"
)

func read(s string) (Query, error) {
	return Read(bufio.NewReaderSize(strings.NewReader(s), bufferBytes))
}

func TestRead(t *testing.T) {
	t.Parallel()
	tests := []struct {
		wire string
		want Query
	}{
		{"26:transport ana@example.test,", Query{"transport", "ana@example.test"}},
		{`15:probe "a b"@x.y,`, Query{"probe", `"a b"@x.y`}},
		{"6:probe ,", Query{"probe", ""}},
		{"1: ,", Query{"", ""}},
		{"10240:probe " + strings.Repeat("a", 10234) + ",", Query{"probe", strings.Repeat("a", 10234)}},
	}
	for _, tt := range tests {
		if got, err := read(tt.wire); err != nil || got != tt.want {
			t.Errorf("%.40q: got %.60q, %v", tt.wire, got, err)
		}
	}
}

func TestReadMalformed(t *testing.T) {
	t.Parallel()
	for _, wire := range []string{"x:probe a,", ":probe a,", "-1:a,", "+7:probe a,", "07:probe a,", "0:,", "7:probe a;", "6:probe a,",
		"5:probe,", "10241:" + strings.Repeat("a", 10242), "99999999999999999999:", "00000000000:"} {
		if got, err := read(wire); !errors.Is(err, session.ErrMalformed) {
			t.Errorf("%.40q: got %+v, %v; want ErrMalformed", wire, got, err)
		}
	}
}

func TestReadTorn(t *testing.T) {
	t.Parallel()
	const wire = "26:transport ana@example.test,"
	for n := 1; n < len(wire); n++ {
		if _, err := read(wire[:n]); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%q: %v, want unexpected EOF", wire[:n], err)
		}
	}
	if _, err := read(""); !errors.Is(err, io.EOF) {
		t.Errorf("nothing: %v, want EOF", err)
	}
}

// FuzzRead checks that any bytes are read or refused within the bounds, and
// that whatever is read gets a reply that Postfix can read.
func FuzzRead(f *testing.F) {
	for _, s := range []string{"26:transport ana@example.test,", "6:probe ,", "20:sender_login @a,b@c,", "99999:", "07:probe a,",
		"26:relay_domains example.test,"} {
		f.Add(s)
	}
	maps := &Maps{Directory: policytest.Directory(policytest.Example().With(selected)), PortalTransport: portal}
	f.Fuzz(func(t *testing.T, wire string) {
		q, err := read(wire)
		if err != nil {
			return
		}
		if n := len(q.Map) + 1 + len(q.Key); n > maxRequestBytes {
			t.Fatalf("a request of %d bytes was read", n)
		}
		reply := maps.answer(q).Bytes
		if len(reply) > maxReplyBytes+8 {
			t.Fatalf("reply of %d bytes", len(reply))
		}
		status := strings.TrimLeft(string(reply), "0123456789:")
		for _, c := range []byte(status) {
			if c < ' ' || c == 0x7f {
				t.Fatalf("unsafe reply %q", reply)
			}
		}
	})
}
