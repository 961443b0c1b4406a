package probe

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strings"
	"time"
	"unicode"

	"understudy/worker/detect"
)

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

const stageConnect = "connect"

// stageError says in which stage a probe ended.
type stageError struct {
	stage string
	err   error
}

func (e *stageError) Error() string { return e.stage + ": " + e.err.Error() }
func (e *stageError) Unwrap() error { return e.err }

// handshakeError is broken TLS.
type handshakeError struct{ error }

func (e *handshakeError) Unwrap() error { return e.error }

// classify names what ended a probe, with words for people. allowed is how
// long the server had for it; late says that the probe's time was over: half
// a reply is then no reply.
func classify(err error, allowed time.Duration, late bool) (detect.Class, string) {
	stage := stageConnect
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
		return detect.Timeout, fmt.Sprintf("%s: no answer within %v", stage, allowed)
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
