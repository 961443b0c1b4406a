package main

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/emersion/go-milter"

	"understudy/internal/archive"
	"understudy/internal/directory"
	"understudy/internal/listen"
)

const (
	// idleTimeout is how long smtpd may say nothing. It keeps the connection
	// while its client is silent (smtpd_timeout, 300 s by default).
	idleTimeout  = 15 * time.Minute
	writeTimeout = 30 * time.Second
	readBuffer   = 4 << 10 // bytes: a usual header; larger pieces pass it by

	// stopGrace is what a message whose content has begun gets to end when the
	// service stops. The others are cut off: Postfix answers 451.
	stopGrace = 20 * time.Second

	// appendTimeout bounds the wait for the disk, within Postfix's
	// milter_content_timeout (300 s by default).
	appendTimeout = time.Minute

	// troubleFor is how long a failed append makes the service unhealthy.
	troubleFor = time.Minute
)

// actions and protocol are what is negotiated with Postfix: every byte of the
// headers, and one answer a message, at its end. Each answer costs Postfix and
// us a switch of processes.
const (
	actions  = milter.OptAddHeader
	protocol = milter.OptHeaderLeadingSpace | milter.OptNoConnReply | milter.OptNoHeloReply | milter.OptNoMailReply |
		milter.OptNoRcptReply | milter.OptNoHeaderReply | milter.OptNoEOHReply | milter.OptNoBodyReply |
		milter.OptNoUnknown | milter.OptNoData
)

// server is what all sessions share.
type server struct {
	dir      *directory.Directory
	archive  *archive.Writer
	metrics  *metrics
	log      *slog.Logger
	spoolDir string
	maxBytes int64

	mu        sync.Mutex
	serving   bool
	trouble   error // of the last append that did not succeed
	troubleAt time.Time
}

// serve accepts milter connections until ctx ends, and returns when they have
// ended.
func (s *server) serve(ctx context.Context, l net.Listener, maxConnections int) error {
	s.mu.Lock()
	s.serving = true
	s.mu.Unlock()
	ls := listen.Server{Name: "milter", Max: maxConnections, Handle: s.handle, Log: s.log,
		Open: s.metrics.sessions, Panics: s.metrics.panics}
	return ls.Serve(ctx, l)
}

// handle runs one connection. go-milter makes a new backend after each final
// answer, but Postfix tells the client's address once a connection: so each
// connection gets a go-milter server of its own that always returns the same
// session.
func (s *server) handle(ctx context.Context, c net.Conn) {
	conn := newDeadlineConn(c)
	sess := &session{server: s, conn: conn}
	defer sess.reset()
	stop := context.AfterFunc(ctx, conn.stop)
	defer stop()
	srv := &milter.Server{NewMilter: func() milter.Milter { return sess }, Actions: actions, Protocol: protocol}
	if err := srv.Serve(&oneConn{conn: conn}); !errors.Is(err, net.ErrClosed) {
		s.log.Error("milter connection", "error", err)
	}
}

// health says why the service does not do its work, or nil.
func (s *server) health() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.serving:
		return errors.New("the milter socket is not open yet")
	case !s.dir.Loaded():
		return errors.New("the directory was never loaded: all mail is refused for now")
	case s.trouble != nil && time.Since(s.troubleAt) < troubleFor:
		return s.trouble
	}
	return nil
}

func (s *server) setTrouble(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trouble, s.troubleAt = err, time.Now()
}

// oneConn is a listener that yields one connection and, when that is closed,
// its end.
type oneConn struct {
	conn  *deadlineConn
	given bool
}

func (l *oneConn) Accept() (net.Conn, error) {
	if !l.given {
		l.given = true
		return l.conn, nil
	}
	<-l.conn.closed
	return nil, net.ErrClosed
}

func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return l.conn.LocalAddr() }

// deadlineConn puts a deadline on every read and write, and can be told to
// stop: at once between messages, after a grace within one.
type deadlineConn struct {
	net.Conn
	in     *bufio.Reader // go-milter reads each packet in two pieces, and Postfix sends a header field a packet
	once   sync.Once
	closed chan struct{}

	mu      sync.Mutex
	busy    bool      // the content of a message is coming in
	stopped time.Time // when stop was called; zero before
}

func newDeadlineConn(c net.Conn) *deadlineConn {
	d := &deadlineConn{Conn: c, closed: make(chan struct{})}
	d.in = bufio.NewReaderSize(unbuffered{d}, readBuffer)
	return d
}

func (c *deadlineConn) Read(p []byte) (int, error) { return c.in.Read(p) }

// unbuffered reads from the connection itself.
type unbuffered struct{ c *deadlineConn }

func (u unbuffered) Read(p []byte) (int, error) {
	if err := u.c.setReadDeadline(); err != nil {
		return 0, err
	}
	return u.c.Conn.Read(p)
}

func (c *deadlineConn) setReadDeadline() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.Conn.SetReadDeadline(c.deadline())
}

func (c *deadlineConn) deadline() time.Time {
	switch {
	case c.stopped.IsZero():
		return time.Now().Add(idleTimeout)
	case c.busy:
		return c.stopped.Add(stopGrace)
	}
	return c.stopped // past: a read ends at once
}

func (c *deadlineConn) Write(p []byte) (int, error) {
	if err := c.Conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// setBusy says whether a message's content is under way.
func (c *deadlineConn) setBusy(busy bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy = busy
}

// stop ends the connection soon.
func (c *deadlineConn) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = time.Now()
	c.Conn.SetReadDeadline(c.deadline()) //nolint:errcheck // the next read sees a broken connection itself
}

// Close may be called more than once.
func (c *deadlineConn) Close() error {
	err := net.ErrClosed
	c.once.Do(func() {
		err = c.Conn.Close()
		close(c.closed)
	})
	return err
}
