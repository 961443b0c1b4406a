package session

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// echo is a line protocol that answers each line with itself; "bad" is
// malformed, "panic" panics.
type echo struct {
	*Server[string]
	address string
	stop    context.CancelFunc
	done    chan error
}

func startEcho(t *testing.T) *echo {
	t.Helper()
	e := &echo{done: make(chan error, 1), address: filepath.Join(t.TempDir(), "s")}
	e.Server = &Server[string]{Protocol: "echo", Max: 10, BufferBytes: 64, Log: slog.New(slog.DiscardHandler),
		Metrics: NewMetrics(prometheus.NewRegistry()),
		Read: func(r *bufio.Reader) (string, error) {
			line, err := r.ReadString('\n')
			if line == "bad\n" {
				return "", fmt.Errorf("%w: bad", ErrMalformed)
			}
			return line, err
		},
		Answer: func(line string) Answer {
			if line == "panic\n" {
				panic("as asked")
			}
			return Answer{Bytes: []byte(line), Question: "line", Label: "echo"}
		}}
	l, err := net.Listen("unix", e.address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	e.stop = cancel
	go func() { e.done <- e.Serve(ctx, l) }()
	return e
}

func (e *echo) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", e.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(3 * time.Minute)) //nolint:errcheck // reads and writes tell
	return c
}

func exchange(t *testing.T, c net.Conn, send, want string) {
	t.Helper()
	if _, err := io.WriteString(c, send); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("sent %q: got %q, %v; want %q", send, got, err, want)
	}
}

// ended wants the connection closed without another byte.
func ended(t *testing.T, c net.Conn) {
	t.Helper()
	if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %d bytes, %v; want the end", n, err)
	}
}

func TestAnswersInOrder(t *testing.T) {
	t.Parallel()
	c := startEcho(t).dial(t)
	exchange(t, c, "one\n", "one\n")
	exchange(t, c, "two\nthree\n", "two\nthree\n")
}

func TestMalformedEndsTheConnection(t *testing.T) {
	t.Parallel()
	e := startEcho(t)
	c, other := e.dial(t), e.dial(t)
	exchange(t, c, "one\nbad\n", "one\n")
	ended(t, c)
	exchange(t, other, "still here\n", "still here\n")
	if n := testutil.ToFloat64(e.Metrics.malformed.WithLabelValues("echo")); n != 1 {
		t.Errorf("malformed = %v, want 1", n)
	}
}

func TestPanicEndsTheConnection(t *testing.T) {
	t.Parallel()
	e := startEcho(t)
	c, other := e.dial(t), e.dial(t)
	if _, err := io.WriteString(c, "panic\n"); err != nil {
		t.Fatal(err)
	}
	ended(t, c)
	exchange(t, other, "still here\n", "still here\n")
	e.stop()
	<-e.done // the panic is counted after the connection is closed
	if n := testutil.ToFloat64(e.Metrics.panics); n != 1 {
		t.Errorf("panics = %v, want 1", n)
	}
}

func TestEndFinishesTheRequestUnderWay(t *testing.T) {
	t.Parallel()
	e := startEcho(t)
	idle, fresh, busy := e.dial(t), e.dial(t), e.dial(t)
	exchange(t, idle, "one\n", "one\n")
	exchange(t, busy, "one\n", "one\n")
	// The first is answered when the second has begun.
	exchange(t, busy, "two\nthr", "two\n")
	begun := time.Now()
	e.stop()
	ended(t, idle)
	ended(t, fresh)
	if took := time.Since(begun); took > RequestTimeout/2 {
		t.Errorf("idle connections closed after %v", took)
	}
	select {
	case err := <-e.done:
		t.Fatalf("ended (%v) before the request under way was answered", err)
	default:
	}
	exchange(t, busy, "ee\n", "three\n")
	ended(t, busy)
	if err := <-e.done; err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("unix", e.address); err == nil {
		t.Error("still accepts connections")
	}
}

// TestEndAnswersWhatHasArrived gives the server a connection on which a whole
// request waits, when it is to end already.
func TestEndAnswersWhatHasArrived(t *testing.T) {
	t.Parallel()
	e := startEcho(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := io.WriteString(client, "one\n"); err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	e.handle(ctx, server)
	server.Close()
	if got, err := io.ReadAll(client); err != nil || string(got) != "one\n" {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestEndIsNotHeldByABusyClient lets a client ask without a pause.
func TestEndIsNotHeldByABusyClient(t *testing.T) {
	t.Parallel()
	e := startEcho(t)
	c := e.dial(t)
	exchange(t, c, "one\n", "one\n")
	go func() {
		for {
			if _, err := io.WriteString(c, "more\n"); err != nil {
				return
			}
		}
	}()
	go io.Copy(io.Discard, c) //nolint:errcheck // until it is closed
	e.stop()
	if err := <-e.done; err != nil {
		t.Error(err)
	}
}
