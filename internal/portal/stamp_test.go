package portal

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

const stamp = "Return-Path: <Send+er@Internet.test>\r\nDelivered-To: Ana+Tag@Example.test\r\nReceived: from me ([127.0.0.1])\r\n" +
	"\tby portal.example.test with LMTP\r\n\tid uPujBYBwBGsJCwAAg+zDdQ:T2\r\n\t(envelope-from <Send+er@Internet.test>)\r\n" +
	"\tfor <Ana+Tag@Example.test>; Mon, 23 Nov 2026 16:57:36 +0000\r\n"

func TestUnstamp(t *testing.T) {
	t.Parallel()
	const message = "X-Understudy-Id: 1\r\nReturn-Path: <x@y>\r\nSubject: hi\r\n\r\nbody\r\n"
	replace := func(old, with string) string { return strings.Replace(stamp, old, with, 1) + message }
	tests := []struct {
		name, in string
		sender   string
		stamped  bool
	}{
		{"ours", stamp + message, "Send+er@Internet.test", true},
		{"null sender", strings.ReplaceAll(stamp, "Send+er@Internet.test", "") + message, "", true},
		{"TLS", replace("\tby portal", "\t(using TLSv1.3 with cipher X (256/256 bits))\r\n\tby portal"), "Send+er@Internet.test", true},
		{"only the topmost", stamp + stamp + message, "Send+er@Internet.test", true},
		{"header ends with it", stamp + "\r\nbody\r\n", "Send+er@Internet.test", true},
		{"none", message, "", false},
		{"sent mail", "Received: from x\r\n\tby y with ESMTPSA\r\n" + message, "", false},
		{"not LMTP", replace("with LMTP", "with ESMTP"), "", false},
		{"another sender", replace("(envelope-from <Send+er@Internet.test>)", "(envelope-from <x@y>)"), "", false},
		{"another recipient", replace("for <Ana+Tag@Example.test>", "for <x@y>"), "", false},
		{"no Delivered-To", replace("Delivered-To: Ana+Tag@Example.test\r\n", ""), "", false},
		{"another field between", replace("Delivered-To:", "X: y\r\nDelivered-To:"), "", false},
		{"folded Return-Path", replace("Return-Path: <Send", "Return-Path: <\r\n Send"), "", false},
		{"unfinished", stamp, "", false},
		{"cut", stamp[:len(stamp)-20], "", false},
		{"empty", "", "", false},
		{"bare LF", strings.ReplaceAll(stamp+message, "\r\n", "\n"), "", false},
		{"endless", "Return-Path: <" + strings.Repeat("x", 1<<20), "", false},
	}
	for _, tt := range tests {
		r := bufio.NewReaderSize(iotest.OneByteReader(strings.NewReader(tt.in)), maxStamp)
		e, n := Unstamp(r)
		stamped := n > 0
		rest, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if stamped != tt.stamped || e.Sender != tt.sender || stamped && e.Recipient != "Ana+Tag@Example.test" {
			t.Errorf("%s: got %+v, %v", tt.name, e, stamped)
		}
		want := tt.in
		if stamped {
			want = tt.in[strings.Index(tt.in, "+0000\r\n")+7:]
		}
		if string(rest) != want {
			t.Errorf("%s: rest is %.100q, want %.100q", tt.name, rest, want)
		}
	}
}

// TestUnstampKeepsErrors: a message that cannot be read must not pass for one
// that ends.
func TestUnstampKeepsErrors(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	r := bufio.NewReaderSize(io.MultiReader(strings.NewReader(stamp+"Subject: x\r\n"), iotest.ErrReader(broken)), maxStamp)
	if _, n := Unstamp(r); n != len(stamp) {
		t.Error("the stamp was there")
	}
	if _, err := io.ReadAll(r); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func FuzzUnstamp(f *testing.F) {
	f.Add([]byte(stamp + "Subject: x\r\n\r\n"))
	f.Add([]byte("Return-Path: <>\r\nDelivered-To: \r\nReceived: from \r\n\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		e, n := parseStamp(in)
		if n < 0 || n > len(in) {
			t.Fatalf("length %d of %d", n, len(in))
		}
		if n == 0 {
			return
		}
		if !bytes.HasSuffix(in[:n], []byte("\r\n")) || n == len(in) || in[n] == ' ' || in[n] == '\t' {
			t.Errorf("stamp ends within a field: %q", in[:n])
		}
		if !bytes.Contains(in[:n], []byte(" with ")) || e.Recipient == "" || strings.Contains(e.Sender, "\r\n\r\n") {
			t.Errorf("stamp %q gives %+v", in[:n], e)
		}
	})
}

func FuzzParseReplies(f *testing.F) {
	f.Add([]byte(`[["doveadmResponse",[{"mailbox":"INBOX","messages":"2","uidvalidity":"1795453056"}],"0"],["error",{"type":"exitCode","exitCode":67},"1"]]`))
	f.Add([]byte(`[["doveadmResponse",[{"uid":"1","guid":"2a","size.virtual":"318","flags":"\\Recent"}],"0"]]`))
	f.Fuzz(func(t *testing.T, in []byte) {
		replies, err := parseReplies(in, 2)
		if err != nil {
			return
		}
		for _, r := range replies {
			r.status()  //nolint:errcheck // must not panic
			r.entries() //nolint:errcheck // must not panic
		}
	})
}
