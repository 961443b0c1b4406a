package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/textproto"
	"strings"
)

// session is one SMTP dialogue.
type session struct {
	conn net.Conn
	text *textproto.Conn
	in   *io.LimitedReader
	helo string

	close func()
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
