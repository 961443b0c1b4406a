// Package probe asks a primary whether it would take mail now: connect,
// banner, EHLO, STARTTLS where offered, MAIL FROM:<>, on wish RCPT TO for
// recipients that it is known to have, RSET, QUIT (RFC 5321, RFC 3207). It
// sends no message.
//
// Every probe ends within its timeout and takes little memory, whatever the
// other side sends. It tells classes apart as package detect wants them.
package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"understudy/internal/nexthop"
	"understudy/worker/detect"
)

const (
	maxReplies = 64 << 10 // bytes taken from the other side in one probe
	maxDetail  = 200      // bytes
)

// Prober probes primaries.
type Prober struct {
	Helo    string        // our name in EHLO
	Timeout time.Duration // of a whole probe
}

// Probe asks a primary, as package nexthop reads it, naming recipients to it
// if there are any. One host of several behind it (MX) that takes mail is
// enough.
func (p *Prober) Probe(ctx context.Context, primary string, recipients ...string) detect.Host {
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	hosts, err := nexthop.Hosts(ctx, primary)
	if err != nil {
		h := detect.Host{Host: primary}
		h.Class, h.Detail = classify(err, p.Timeout, false)
		return h
	}
	found := make([]detect.Host, len(hosts))
	var wg sync.WaitGroup
	for i, address := range hosts {
		wg.Go(func() { found[i] = p.host(ctx, address, recipients) })
	}
	wg.Wait()
	best := found[0] // the one that mail goes to first
	if i := slices.IndexFunc(found, func(h detect.Host) bool { return h.Class == detect.Healthy }); i > 0 {
		best = found[i]
	}
	best.Host = primary
	return best
}

// host asks the host at "host:port".
func (p *Prober) host(ctx context.Context, address string, recipients []string) detect.Host {
	h, err := p.try(ctx, address, true, recipients)
	if refused := tlsAlert(err); refused != nil {
		// It wants ciphers that this program does not have. Postfix may have
		// them: that is no failure of the primary.
		if h, err = p.try(ctx, address, false, recipients); err == nil && h.Class == detect.Healthy {
			h.Detail = printable("TLS not probed: " + refused.Error())
		}
	}
	if err != nil {
		deadline, _ := ctx.Deadline()
		h.Class, h.Detail = classify(err, p.Timeout, time.Now().After(deadline))
	}
	return h
}

// tlsAlert returns the alert (RFC 8446 section 6) with which the other side
// ended a handshake, or nil.
func tlsAlert(err error) error {
	var handshake *handshakeError
	var op *net.OpError
	if errors.As(err, &handshake) && errors.As(handshake, &op) && op.Op == "remote error" {
		return op.Err
	}
	return nil
}

// stageError says in which stage a probe ended.
type stageError struct {
	stage string
	err   error
}

func (e *stageError) Error() string { return e.stage + ": " + e.err.Error() }
func (e *stageError) Unwrap() error { return e.err }

// session is one SMTP dialogue.
type session struct {
	conn net.Conn
	text *textproto.Conn
	in   *io.LimitedReader
	helo string

	close func()
}

// try plays the dialogue once. The error is a stageError.
func (p *Prober) try(ctx context.Context, address string, useTLS bool, recipients []string) (detect.Host, error) {
	h := detect.Host{Host: address, Class: detect.Healthy}
	s, err := p.open(ctx, address, useTLS)
	if err != nil {
		return h, err
	}
	defer s.close()
	if len(recipients) > 0 {
		replies, err := s.recipients(recipients[:min(len(recipients), maxRecipients)])
		if err != nil {
			return h, &stageError{"RCPT", err}
		}
		h.Recipients = len(replies)
		h.Class, h.Detail = judge(replies)
	}
	s.leave()
	return h, nil
}

// open plays the dialogue up to MAIL, which ends with ctx. The error is a
// stageError.
func (p *Prober) open(ctx context.Context, address string, useTLS bool) (*session, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, &stageError{"connect", err}
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) }) //nolint:errcheck // ends all I/O
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetDeadline(deadline) //nolint:errcheck // a TCP connection has deadlines
	}
	s := &session{helo: p.Helo, in: &io.LimitedReader{N: maxReplies}, close: func() { stop(); conn.Close() }}
	s.use(conn)
	if err := s.begin(ctx, address, useTLS); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// begin says what comes before recipients.
func (s *session) begin(ctx context.Context, address string, useTLS bool) error {
	if _, _, err := s.text.ReadResponse(220); err != nil {
		return &stageError{"banner", err}
	}
	offersTLS, err := s.hello()
	if err != nil {
		return &stageError{"EHLO", err}
	}
	if offersTLS && useTLS {
		if err := s.startTLS(ctx, address); err != nil {
			return &stageError{"STARTTLS", err}
		}
	}
	if err := s.mail(); err != nil {
		return &stageError{"MAIL", err}
	}
	return nil
}

// leave ends the dialogue: the answer is known.
func (s *session) leave() {
	s.command("RSET") //nolint:errcheck // courtesy
	s.command("QUIT") //nolint:errcheck
}

// use talks over c from now on.
func (s *session) use(c net.Conn) {
	s.conn, s.in.R = c, c
	s.text = textproto.NewConn(struct {
		io.Reader
		io.Writer
		io.Closer
	}{s.in, c, c})
}

// command sends a line and wants a 2xx reply.
func (s *session) command(format string, args ...any) (string, error) {
	if err := s.text.PrintfLine(format, args...); err != nil {
		return "", err
	}
	_, text, err := s.text.ReadResponse(2)
	return text, err
}

// hello says EHLO, or HELO to a server that does not know it (RFC 5321
// section 3.2), and reports whether STARTTLS is offered.
func (s *session) hello() (offersTLS bool, err error) {
	text, err := s.command("EHLO %s", s.helo)
	var reply *textproto.Error
	if errors.As(err, &reply) && (reply.Code == 500 || reply.Code == 502) {
		_, err = s.command("HELO %s", s.helo)
		return false, err
	}
	for line := range strings.SplitSeq(text, "\n") {
		offersTLS = offersTLS || strings.EqualFold(strings.TrimSpace(line), "STARTTLS")
	}
	return offersTLS, err
}

// startTLS switches to TLS and says EHLO again. Certificates are not looked
// at: Postfix's "may" does not, and what counts is whether mail gets through.
// A server that refuses STARTTLS for now goes on in clear, as with Postfix.
func (s *session) startTLS(ctx context.Context, address string) error {
	_, err := s.command("STARTTLS")
	var reply *textproto.Error
	if errors.As(err, &reply) {
		return nil
	}
	if err != nil {
		return err
	}
	host, _, _ := net.SplitHostPort(address) //nolint:errcheck // it was dialled
	var ciphers []uint16
	for _, c := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		ciphers = append(ciphers, c.ID)
	}
	c := tls.Client(countedConn{s.conn, s.in}, &tls.Config{ServerName: host, InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, CipherSuites: ciphers})
	if err := c.HandshakeContext(ctx); err != nil {
		return &handshakeError{err}
	}
	s.in = &io.LimitedReader{N: maxReplies}
	s.use(c)
	_, err = s.hello()
	return err
}

// countedConn reads through the limit of the probe.
type countedConn struct {
	net.Conn
	in io.Reader
}

func (c countedConn) Read(p []byte) (int, error) { return c.in.Read(p) }

// mail names the null sender, and another when that is refused for good: some
// servers refuse it against RFC 5321 section 4.5.5 and take all other mail.
func (s *session) mail() error {
	_, err := s.command("MAIL FROM:<>")
	var reply *textproto.Error
	if !errors.As(err, &reply) || reply.Code < 500 {
		return err
	}
	if _, again := s.command("MAIL FROM:<postmaster@%s>", s.helo); again != nil {
		return err
	}
	return nil
}

// handshakeError is broken TLS.
type handshakeError struct{ error }

func (e *handshakeError) Unwrap() error { return e.error }

// classify names what ended a probe, with words for people. late says that its
// time was over: half a reply is then no reply.
func classify(err error, timeout time.Duration, late bool) (detect.Class, string) {
	stage := "connect"
	var at *stageError
	if errors.As(err, &at) {
		stage = at.stage
	}
	var netErr net.Error
	var reply *textproto.Error
	var protocol textproto.ProtocolError
	var handshake *handshakeError
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		return detect.Unreachable, printable("name lookup: " + dns.Err)
	case errors.As(err, &netErr) && netErr.Timeout(), late && !errors.As(err, &reply):
		return detect.Timeout, fmt.Sprintf("%s: no answer within %v", stage, timeout)
	case errors.As(err, &handshake):
		return detect.TLS, printable("TLS handshake: " + handshake.Error())
	case errors.As(err, &reply) && reply.Code >= 500:
		return detect.ServerReject, printable(fmt.Sprintf("%s: %d %s", stage, reply.Code, reply.Msg))
	case errors.As(err, &reply) && reply.Code >= 400:
		return detect.ServerTempfail, printable(fmt.Sprintf("%s: %d %s", stage, reply.Code, reply.Msg))
	case errors.As(err, &reply), errors.As(err, &protocol):
		return detect.ServerReject, printable(stage + ": no SMTP reply: " + at.err.Error())
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return detect.Unreachable, stage + ": the connection was closed"
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
		return detect.Unreachable, printable(stage + ": " + strings.TrimPrefix(err.Error(), "connect: "))
	}
	return detect.Unreachable, printable(err.Error())
}

// printable makes foreign text fit to be shown: one line, bounded.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > maxDetail {
		s = strings.ToValidUTF8(s[:maxDetail], "")
	}
	return s
}
