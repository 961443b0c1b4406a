// Package session runs connections of a protocol that is one request, one
// answer, again and again, as both protocols of policyd are.
//
// It needs nothing but memory: no answer waits for PostgreSQL, DNS or a disk.
// A client that is slow, silent or wrong costs its own connection only. When
// the service ends, a request that has begun to arrive is still answered, and
// idle connections are closed at once: Postfix then asks again on a new
// connection (SMTPD_POLICY_README, socketmap_table(5)).
package session

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"understudy/internal/listen"
)

// ErrMalformed marks a request that breaks its protocol or its bounds. The
// connection is closed without an answer: its next byte means nothing sure.
var ErrMalformed = errors.New("malformed request")

const (
	// IdleTimeout is longer than Postfix keeps an idle policy connection
	// (smtpd_policy_service_max_idle, 300 s), so that Postfix is the one to
	// close it.
	IdleTimeout = 6 * time.Minute
	// RequestTimeout is how long the rest of a request may take after its
	// first byte.
	RequestTimeout = 10 * time.Second
	// WriteTimeout is how long a client may take to read an answer.
	WriteTimeout = 10 * time.Second
	// lastLook is how long an idle connection is read at the end, to find a
	// request that had already arrived.
	lastLook = 50 * time.Millisecond
)

// Answer is what is written for one request.
type Answer struct {
	Bytes    []byte
	Question string // label of metrics: policy context or map; from a fixed set
	Label    string // label of metrics: the kind of answer; from a fixed set
}

// Server speaks one protocol with requests of type Q.
type Server[Q any] struct {
	Protocol    string // for logs and metrics
	Max         int    // connections at once
	BufferBytes int    // of the reader handed to Read: the longest line it can see
	Read        func(*bufio.Reader) (Q, error)
	Answer      func(Q) Answer // must not block
	Log         *slog.Logger
	Metrics     *Metrics
}

// Serve runs connections of l until ctx ends and the requests under way are
// answered.
func (s *Server[Q]) Serve(ctx context.Context, l net.Listener) error {
	accept := listen.Server{Name: s.Protocol, Max: s.Max, Handle: s.handle, Log: s.Log,
		Open: s.Metrics.open.WithLabelValues(s.Protocol), Panics: s.Metrics.panics}
	return accept.Serve(ctx, l)
}

func (s *Server[Q]) handle(ctx context.Context, nc net.Conn) {
	c := &conn{Conn: nc, r: bufio.NewReaderSize(nc, s.BufferBytes)}
	defer context.AfterFunc(ctx, c.wake)()
	for last := false; !last && c.await(ctx); {
		// At the end, one request more: a client that never pauses must not keep us.
		last = ctx.Err() != nil
		c.SetReadDeadline(time.Now().Add(RequestTimeout)) //nolint:errcheck // the read tells
		q, err := s.Read(c.r)
		if errors.Is(err, ErrMalformed) {
			s.Metrics.malformed.WithLabelValues(s.Protocol).Inc()
			s.Log.Warn("connection closed", "listener", s.Protocol, "error", err)
			return
		}
		if err != nil {
			s.Log.Debug("request broke off", "listener", s.Protocol, "error", err)
			return
		}
		begun := time.Now()
		a := s.Answer(q)
		c.SetWriteDeadline(time.Now().Add(WriteTimeout)) //nolint:errcheck // the write tells
		if _, err := c.Write(a.Bytes); err != nil {
			s.Log.Debug("answer not taken", "listener", s.Protocol, "error", err)
			return
		}
		s.Metrics.answered(s.Protocol, a, time.Since(begun))
	}
}

// conn is a connection that knows whether it is between requests.
type conn struct {
	net.Conn
	r    *bufio.Reader
	mu   sync.Mutex
	idle bool // between requests: may be closed
}

// wake ends the wait for a next request, but not one that has begun.
func (c *conn) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idle {
		c.SetReadDeadline(time.Now()) //nolint:errcheck // the read tells
	}
}

// await waits for the first byte of a request; false means there is none.
func (c *conn) await(ctx context.Context) bool {
	c.setIdle(ctx, true)
	_, err := c.r.Peek(1)
	c.setIdle(ctx, false)
	if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil {
		// An expired deadline hides what the kernel already holds: look once more.
		c.SetReadDeadline(time.Now().Add(lastLook)) //nolint:errcheck // the read tells
		_, err = c.r.Peek(1)
	}
	return err == nil
}

func (c *conn) setIdle(ctx context.Context, idle bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = idle
	if !idle {
		return
	}
	deadline := time.Now()
	if ctx.Err() == nil {
		deadline = deadline.Add(IdleTimeout)
	}
	c.SetReadDeadline(deadline) //nolint:errcheck // the read tells
}
