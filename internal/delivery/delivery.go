// Package delivery is the one SMTP client (RFC 5321) of Understudy: it brings
// a message to a primary, for the drain and for redelivery.
//
// Hosts are tried in order as long as nothing of the message was sent. TLS is
// opportunistic (RFC 3207): used when offered, given up when the handshake
// does not succeed, unless the Client requires it. When no host can be
// reached every recipient's result is a temporary Error; nothing is retried
// here.
//
// The bytes of the message arrive as they were given, but for what SMTP
// itself cannot carry: a line that ends in a bare LF ends in CRLF, a last line
// without an end gets one, and a CR before a CRLF is sent twice. 8-bit data
// and NUL are sent as they are, even to a host without 8BITMIME.
package delivery

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/emersion/go-smtp"

	"understudy/internal/nexthop"
)

// Client delivers messages. The zero value works; it must not be changed
// once in use. All methods may be called at once from many goroutines.
type Client struct {
	Helo       string      // our name in EHLO; "" is "localhost"
	TLS        *tls.Config // nil: certificates are not verified
	RequireTLS bool        // never fall back to plaintext
	Timeouts   Timeouts
}

// Timeouts are the longest waits of each stage; a zero takes its default.
type Timeouts struct {
	Connect  time.Duration // to connect, and again for the TLS handshake: 10 s
	Command  time.Duration // for the greeting and each reply but the last: 1 min
	Stall    time.Duration // for one write of data to make progress: 1 min
	DataDone time.Duration // for the reply to the final dot: 10 min (RFC 5321 section 4.5.3.2.6)
}

// Message is what is delivered.
type Message struct {
	Sender     string // "" is the null reverse-path
	Recipients []string
	Body       io.Reader // header and body, read at most once
	Size       int64     // announced with SIZE (RFC 1870), in octets; 0: unknown
}

// Result is what became of one recipient.
type Result struct {
	Recipient string
	Host      string // that decided
	Reply     string // the reply to the final dot, when Err is nil
	Err       *Error // nil: the host has taken the message over
}

// Deliver sends m to the first of primaries (as package nexthop reads them)
// that talks to us, and returns one result for each recipient, in their order. Cancelling ctx ends
// the attempt, but not while the answer to the final dot is awaited: the
// message may already be on the other side.
func (c *Client) Deliver(ctx context.Context, primaries []string, m Message) []Result {
	results := every(m, "", &Error{Stage: StageConnect, Text: "no host to deliver to", Temporary: true})
	for _, a := range append([]string{m.Sender}, m.Recipients...) {
		if !validPath(a) {
			return every(m, "", &Error{Stage: StageMail, Code: 553, Enhanced: "5.1.3", Text: "address cannot be sent by SMTP"})
		}
	}
	for _, primary := range primaries {
		hosts, err := nexthop.Hosts(ctx, primary)
		if err != nil {
			results = every(m, primary, failure(ctx, primary, StageConnect, err))
			continue
		}
		for _, host := range hosts {
			t := &transaction{client: c, host: host, message: m}
			results = t.run(ctx)
			if t.sent || !allTemporary(results) || ctx.Err() != nil {
				return results
			}
		}
	}
	return results
}

// transaction is one attempt at one host.
type transaction struct {
	client  *Client
	host    string
	message Message
	sent    bool // something of the body may have been sent
}

func (t *transaction) run(ctx context.Context) []Result {
	m := t.message
	s, err := t.client.open(ctx, t.host)
	if err != nil {
		return every(m, t.host, err)
	}
	defer s.close()
	opts := &smtp.MailOptions{Size: m.Size}
	if opts.UTF8 = needsUTF8(m); opts.UTF8 {
		if ok, _ := s.smtp.Extension("SMTPUTF8"); !ok {
			// RFC 6531 section 3.5; enhanced code from RFC 6531 section 7.
			return every(m, t.host, &Error{Stage: StageMail, Host: t.host, Code: 553, Enhanced: "5.6.7",
				Text: "address needs SMTPUTF8, which the server does not offer"})
		}
	}
	if err := s.smtp.Mail(m.Sender, opts); err != nil {
		return every(m, t.host, s.failed(ctx, StageMail, err))
	}
	results := every(m, t.host, nil)
	accepted := 0
	for i, r := range m.Recipients {
		err := s.smtp.Rcpt(r, nil)
		if err == nil {
			accepted++
			continue
		}
		results[i].Err = s.failed(ctx, StageRcpt, err)
		if results[i].Err.Code == 0 { // the connection is gone
			return every(m, t.host, results[i].Err)
		}
	}
	if accepted == 0 {
		s.quit()
		return results
	}
	reply, failure := t.data(ctx, s)
	for i := range results {
		if results[i].Err == nil {
			results[i].Reply, results[i].Err = reply, failure
		}
	}
	return results
}

// data sends the message. A connection that ends without the final dot ends
// the transaction (RFC 5321 section 4.1.1.4): only then may we give up.
func (t *transaction) data(ctx context.Context, s *session) (string, *Error) {
	w, err := s.smtp.Data()
	if err != nil {
		return "", s.failed(ctx, StageData, err)
	}
	t.sent = true
	body := &source{r: t.message.Body}
	if _, err := io.CopyBuffer(w, body, make([]byte, 32<<10)); err != nil {
		if body.err != nil {
			return "", &Error{Stage: StageSource, Host: t.host, Text: "message cannot be read", Temporary: true, cause: body.err}
		}
		return "", s.failed(ctx, StageContent, err)
	}
	if !s.commit() {
		return "", s.failed(ctx, StageContent, context.Cause(ctx))
	}
	reply, err := w.CloseWithResponse()
	if err != nil {
		e := s.failed(ctx, StageDone, err)
		e.Unknown = e.Code == 0
		if !e.Unknown {
			s.quit()
		}
		return "", e
	}
	s.quit()
	return "250 " + clean(reply.StatusText), nil
}

// source remembers that it was the message, not the connection, that broke.
// It hides other methods of the reader from io.CopyBuffer.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

func every(m Message, host string, err *Error) []Result {
	out := make([]Result, len(m.Recipients))
	for i, r := range m.Recipients {
		out[i] = Result{Recipient: r, Host: host, Err: err}
	}
	return out
}

func allTemporary(results []Result) bool {
	for _, r := range results {
		if r.Err == nil || !r.Err.Temporary {
			return false
		}
	}
	return true
}

func needsUTF8(m Message) bool {
	for _, a := range append([]string{m.Sender}, m.Recipients...) {
		if strings.ContainsFunc(a, func(r rune) bool { return r >= 0x80 }) {
			return true
		}
	}
	return false
}

// validPath tells whether an address can stand between the angle brackets of
// MAIL and RCPT without becoming something else (RFC 5321 section 4.1.2).
func validPath(a string) bool {
	if len(a) > 512 {
		return false
	}
	quoted := false
	for i := 0; i < len(a); i++ {
		switch c := a[i]; {
		case c < ' ' || c == 0x7f:
			return false
		case c == '\\' && quoted:
			i++
			if i == len(a) || a[i] < ' ' || a[i] == 0x7f {
				return false
			}
		case c == '"':
			quoted = !quoted
		case !quoted && (c == ' ' || c == '<' || c == '>'):
			return false
		}
	}
	return !quoted
}

// enhancedCode finds an RFC 3463 code at the start of a reply's text.
func enhancedCode(code smtp.EnhancedCode) string {
	if code[0] != 2 && code[0] != 4 && code[0] != 5 {
		return ""
	}
	return strconv.Itoa(code[0]) + "." + strconv.Itoa(code[1]) + "." + strconv.Itoa(code[2])
}
