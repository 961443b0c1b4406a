package tabline

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestEscape(t *testing.T) {
	t.Parallel()
	for plain, escaped := range map[string]string{
		"":                    "",
		"ana@example.test":    "ana@example.test",
		"a\tb":                "a\x01tb",
		"\x01\t\r\n\x00":      "\x011\x01t\x01r\x01n\x010",
		"\x01t is no tab":     "\x011t is no tab",
		"usér@example.test\t": "usér@example.test\x01t",
	} {
		if got := Escape(plain); got != escaped {
			t.Errorf("Escape(%q) = %q, want %q", plain, got, escaped)
		}
		if got := Unescape(escaped); got != plain {
			t.Errorf("Unescape(%q) = %q, want %q", escaped, got, plain)
		}
	}
	for in, want := range map[string]string{"a\x01": "a", "a\x01x": "ax", "\x01\x01": "\x01"} {
		if got := Unescape(in); got != want {
			t.Errorf("Unescape(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestConnLines(t *testing.T) {
	t.Parallel()
	client, server := net.Pipe()
	go func() {
		io.WriteString(client, "one\ttwo\r\n\nlast without its end")
		client.Close()
	}()
	c := NewConn(t.Context(), server, time.Minute)
	defer c.Release()
	for _, want := range []string{"one\ttwo", ""} {
		if got, err := c.ReadLine(); got != want || err != nil {
			t.Errorf("ReadLine = %q, %v; want %q", got, err, want)
		}
	}
	if got, err := c.ReadLine(); got != "" || !errors.Is(err, io.EOF) {
		t.Errorf("an unfinished line gives %q, %v", got, err)
	}
}

func TestConnBounds(t *testing.T) {
	t.Parallel()
	client, server := net.Pipe()
	defer client.Close()
	go func() {
		io.WriteString(client, strings.Repeat("x", MaxLine-1)+"\n")
		io.WriteString(client, "A\t"+strings.Repeat("x", MaxLine))
	}()
	c := NewConn(t.Context(), server, time.Minute)
	defer c.Release()
	if got, err := c.ReadLine(); len(got) != MaxLine-1 || err != nil {
		t.Errorf("a line of MaxLine: %d octets, %v", len(got), err)
	}
	if got, err := c.ReadLine(); !strings.HasPrefix(got, "A\tx") || !errors.Is(err, ErrTooLong) {
		t.Errorf("a longer one: %.10q, %v", got, err)
	}
}

func TestConnDeadlines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer client.Close()
		c := NewConn(t.Context(), server, time.Minute)
		defer c.Release()
		start := time.Now()
		if _, err := c.ReadLine(); !isTimeout(err) || time.Since(start) != time.Minute {
			t.Errorf("idle: %v after %v", err, time.Since(start))
		}
		go io.WriteString(client, "A\tslow")
		start = time.Now()
		if _, err := c.ReadLine(); !isTimeout(err) || time.Since(start) != lineTimeout {
			t.Errorf("unfinished line: %v after %v", err, time.Since(start))
		}
		start = time.Now()
		if err := c.Write("to somebody who does not read\n"); !isTimeout(err) || time.Since(start) != writeTimeout {
			t.Errorf("write: %v after %v", err, time.Since(start))
		}
	})
}

func TestConnEndsWithContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		client, server := net.Pipe()
		defer client.Close()
		c := NewConn(ctx, server, time.Minute)
		defer c.Release()
		start := time.Now()
		time.AfterFunc(time.Second, cancel)
		if _, err := c.ReadLine(); !errors.Is(err, context.Canceled) || time.Since(start) != time.Second {
			t.Errorf("ReadLine = %v after %v", err, time.Since(start))
		}
		go io.ReadAll(client)
		if err := c.Write("the last reply\n"); err != nil {
			t.Errorf("Write = %v", err)
		}
	})
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

func FuzzTabline(f *testing.F) {
	f.Add("A\timap\t127.0.0.1\tana@example.test\tsecret")
	f.Add("\x01\x01t\t\x01")
	f.Fuzz(func(t *testing.T, s string) {
		if got := Unescape(Escape(s)); got != s {
			t.Errorf("Unescape(Escape(%q)) = %q", s, got)
		}
		if e := Escape(s); strings.ContainsAny(e, "\t\r\n\x00") {
			t.Errorf("Escape(%q) = %q", s, e)
		}
		fields := Split(s)
		if again := Split(strings.TrimSuffix(Join(fields...), "\n")); !slices.Equal(again, fields) {
			t.Errorf("%q -> %q", fields, again)
		}
	})
}
