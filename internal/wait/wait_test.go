package wait

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

func TestFor(t *testing.T) {
	t.Parallel()
	n := 0
	third := func() error {
		if n++; n < 3 {
			return fmt.Errorf("look %d", n)
		}
		return nil
	}
	if err := For(t.Context(), time.Minute, time.Millisecond, third); err != nil || n != 3 {
		t.Errorf("after %d looks: %v", n, err)
	}
	if err := For(t.Context(), time.Millisecond, time.Millisecond, func() error { return io.EOF }); !errors.Is(err, io.EOF) {
		t.Errorf("time is up: %v", err)
	}
	begin := time.Now()
	if err := For(t.Context(), time.Minute, time.Millisecond, func() error { return fmt.Errorf("ended: %w", Never(io.EOF)) }); err != io.EOF || time.Since(begin) > 30*time.Second {
		t.Errorf("never: %v after %v", err, time.Since(begin))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := For(ctx, time.Minute, time.Minute, func() error { return io.EOF }); !errors.Is(err, io.EOF) {
		t.Errorf("context ended: %v", err)
	}
}

// failing is a test that notes how it was ended.
type failing struct{ said string }

func (*failing) Helper()                             {}
func (f *failing) Fatalf(format string, args ...any) { f.said = fmt.Sprintf(format, args...) }

func TestInATest(t *testing.T) {
	t.Parallel()
	var f failing
	Within(&f, time.Millisecond, "the answer", func() error { return errors.New("wrong answer") })
	if !strings.Contains(f.said, "the answer: ") || !strings.Contains(f.said, "wrong answer") {
		t.Errorf("ended with %q", f.said)
	}
	f.said = ""
	n := 0
	True(&f, "two looks", func() bool { n++; return n == 2 })
	if f.said != "" || n != 2 {
		t.Errorf("%d looks, %q", n, f.said)
	}
}

func TestListen(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := Listen(address, address); err != nil {
		t.Error(err)
	}
	l.Close()
	if Listen(address) == nil {
		t.Error("nobody listens, and Listen says so not")
	}
}
