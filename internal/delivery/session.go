package delivery

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-smtp"
)

// session is a greeted connection, encrypted if the server offers it.
type session struct {
	host    string
	smtp    *smtp.Client
	conn    net.Conn
	release func() bool // ends the watch over ctx
}

// open connects to host. A TLS handshake that does not succeed is followed by
// a second connection without TLS, unless TLS is required.
func (c *Client) open(ctx context.Context, host string) (*session, *Error) {
	s, err := c.dial(ctx, host, true)
	if err != nil && err.Stage == StageTLS && !c.RequireTLS && ctx.Err() == nil {
		return c.dial(ctx, host, false)
	}
	return s, err
}

func (c *Client) dial(ctx context.Context, host string, useTLS bool) (*session, *Error) {
	d := net.Dialer{Timeout: cmp.Or(c.Timeouts.Connect, 10*time.Second)}
	tcp, err := d.DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, failure(ctx, host, StageConnect, err)
	}
	conn := &stallConn{Conn: tcp, stall: cmp.Or(c.Timeouts.Stall, time.Minute)}
	s := &session{host: host, conn: conn}
	s.release = context.AfterFunc(ctx, func() { tcp.Close() })
	if stage, err := c.greet(ctx, s, useTLS); err != nil {
		s.close()
		return nil, failure(ctx, host, stage, err)
	}
	return s, nil
}

// greet reads the greeting, says EHLO, starts TLS if it is offered, and hands
// the connection to go-smtp, which cannot start TLS on a connection whose
// extensions it has seen: it is given a greeting of our own, and says EHLO
// (again, now in TLS: RFC 3207 section 4.2).
func (c *Client) greet(ctx context.Context, s *session, useTLS bool) (Stage, error) {
	command := cmp.Or(c.Timeouts.Command, time.Minute)
	name := cmp.Or(c.Helo, "localhost")
	s.conn.SetDeadline(time.Now().Add(command)) //nolint:errcheck // a closed connection shows at once
	text := textproto.NewConn(&replies{Conn: s.conn, left: maxReply})
	if _, _, err := text.ReadResponse(220); err != nil {
		return StageGreeting, replyError(err)
	}
	offered, err := ehlo(text, name)
	if err != nil {
		return StageEhlo, replyError(err)
	}
	switch {
	case useTLS && offered:
		if err := c.startTLS(ctx, s, text); err != nil {
			return StageTLS, err
		}
	case c.RequireTLS:
		return StageTLS, errors.New("server does not offer STARTTLS")
	}
	if text.R.Buffered() > 0 {
		return StageEhlo, errors.New("server sent more than it was asked for")
	}
	s.smtp = smtp.NewClient(&replies{Conn: s.conn, left: maxReply, greeting: []byte("220 go on\r\n")})
	s.smtp.CommandTimeout = command
	s.smtp.SubmissionTimeout = cmp.Or(c.Timeouts.DataDone, 10*time.Minute)
	return StageEhlo, s.smtp.Hello(name)
}

// ehlo reports whether STARTTLS is offered. A server that does not know EHLO
// is no error: go-smtp will say HELO to it.
func ehlo(text *textproto.Conn, name string) (bool, error) {
	if err := text.PrintfLine("EHLO %s", name); err != nil {
		return false, err
	}
	code, msg, err := text.ReadResponse(250)
	if code == 500 || code == 502 {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	lines := strings.Split(msg, "\n")
	return slices.ContainsFunc(lines[1:], func(l string) bool { return strings.EqualFold(l, "STARTTLS") }), nil
}

// startTLS replaces s.conn by its encrypted self. A server that refuses the
// command (454) is served in plaintext if that is allowed.
func (c *Client) startTLS(ctx context.Context, s *session, text *textproto.Conn) error {
	if err := text.PrintfLine("STARTTLS"); err != nil {
		return err
	}
	if _, _, err := text.ReadResponse(220); err != nil {
		return replyError(err)
	}
	if text.R.Buffered() > 0 { // plaintext injected before the handshake
		return errors.New("server sent data before the TLS handshake")
	}
	cfg := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // opportunistic: better than plaintext (RFC 7435)
	if c.TLS != nil {
		cfg = c.TLS.Clone()
	}
	if cfg.ServerName == "" {
		cfg.ServerName, _, _ = net.SplitHostPort(s.host)
	}
	conn := tls.Client(s.conn, cfg)
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.Timeouts.Connect, 10*time.Second))
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	s.conn = conn
	return nil
}

// commit ends the watch over ctx; false when ctx had already ended.
func (s *session) commit() bool { return s.release() }

// quit says good-bye; the transaction is over, so its outcome is of no
// interest, but the wait for it is kept short.
func (s *session) quit() {
	s.smtp.CommandTimeout = 2 * time.Second
	s.smtp.Quit() //nolint:errcheck // see above
}

// close closes the connection without a word: go-smtp's own Close and Quit
// would complete a message that is only half sent.
func (s *session) close() {
	s.release()
	s.conn.Close()
}

// stallConn gives each write a deadline of its own: go-smtp sets none while
// it sends data.
type stallConn struct {
	net.Conn
	stall time.Duration
}

func (c *stallConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.stall)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// maxReply is how much of a server's answers to one command is read, in
// bytes: neither textproto nor go-smtp bounds how many lines a reply has.
const maxReply = 64 << 10

// replies is a connection on which the server says no more than maxReply
// between two things that we say. It may begin with a greeting of our own.
type replies struct {
	net.Conn
	greeting []byte
	left     int
}

func (c *replies) Read(p []byte) (int, error) {
	if len(c.greeting) > 0 {
		n := copy(p, c.greeting)
		c.greeting = c.greeting[n:]
		return n, nil
	}
	if c.left <= 0 {
		return 0, fmt.Errorf("server's reply is longer than %d bytes", maxReply)
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

func (c *replies) Write(p []byte) (int, error) {
	c.left = maxReply
	return c.Conn.Write(p)
}

// replyError gives a reply of our own part of the dialogue the type that
// go-smtp's replies have.
func replyError(err error) error {
	var reply *textproto.Error
	if !errors.As(err, &reply) {
		return err
	}
	out := &smtp.SMTPError{Code: reply.Code, Message: reply.Msg}
	code, rest, ok := strings.Cut(reply.Msg, " ")
	var e smtp.EnhancedCode
	if n, err := fmt.Sscanf(code, "%d.%d.%d", &e[0], &e[1], &e[2]); ok && n == 3 && err == nil {
		out.EnhancedCode, out.Message = e, rest
	}
	return out
}
