package delivery

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/emersion/go-smtp"
)

// Stage is the part of the dialogue in which something went wrong.
type Stage string

// The stages, in their order.
const (
	StageConnect  Stage = "connect"
	StageGreeting Stage = "greeting"
	StageEhlo     Stage = "EHLO"
	StageTLS      Stage = "STARTTLS"
	StageMail     Stage = "MAIL"
	StageRcpt     Stage = "RCPT"
	StageData     Stage = "DATA"
	StageContent  Stage = "content"     // while the message was sent
	StageDone     Stage = "end of DATA" // the reply to the final dot
	StageSource   Stage = "source"      // the message itself could not be read to its end
)

// Error is why a recipient was not served, in terms of mail protocols.
//
// 5xx in the greeting or at EHLO says nothing about the message (the server
// does not want to talk to us) and is Temporary, as is 421 at any stage.
type Error struct {
	Stage     Stage
	Host      string // "host:port"; "" if no host is to blame
	Code      int    // the SMTP reply code, 0 if there was no reply
	Enhanced  string // the RFC 3463 code, as "5.1.1", or ""
	Text      string // the reply's text, or what went wrong; one line, valid UTF-8
	Temporary bool   // a later attempt may succeed
	Unknown   bool   // no reply after the final dot: the message may have been delivered all the same

	cause error
}

// Error describes the failure on one line.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Host != "" {
		b.WriteString(e.Host + ": ")
	}
	b.WriteString(e.Reply() + " (" + string(e.Stage) + ")")
	if e.Unknown {
		b.WriteString(", outcome unknown")
	}
	return b.String()
}

// Reply is the failure as an SMTP reply, or what went wrong when there was
// none.
func (e *Error) Reply() string {
	var parts []string
	if e.Code != 0 {
		parts = append(parts, fmt.Sprint(e.Code))
	}
	if e.Enhanced != "" {
		parts = append(parts, e.Enhanced)
	}
	text := e.Text
	if e.cause != nil {
		text = strings.TrimPrefix(text+": "+clean(e.cause.Error()), ": ")
	}
	return strings.Join(append(parts, text), " ")
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.cause }

// ServerWide tells whether the failure is surely the server's, and so would be
// the same for any other message now. A 4xx to MAIL is not among them: many
// servers answer so to one sender alone.
func (e *Error) ServerWide() bool {
	if e.Stage == StageSource {
		return false
	}
	return e.Temporary && (e.Code == 0 || e.Code == 421 || e.Stage == StageGreeting || e.Stage == StageEhlo)
}

// failed turns what go-smtp or the connection reported into an Error.
func (s *session) failed(ctx context.Context, stage Stage, err error) *Error {
	return failure(ctx, s.host, stage, err)
}

func failure(ctx context.Context, host string, stage Stage, err error) *Error {
	e := &Error{Stage: stage, Host: host, Temporary: true}
	var reply *smtp.SMTPError
	switch {
	case errors.As(err, &reply):
		e.Code, e.Enhanced, e.Text = reply.Code, enhancedCode(reply.EnhancedCode), clean(reply.Message)
		early := stage == StageGreeting || stage == StageEhlo || stage == StageTLS
		e.Temporary = early || reply.Code < 500
	case ctx.Err() != nil:
		e.Text, e.cause = "given up", context.Cause(ctx)
	default:
		e.cause = err
	}
	return e
}

// maxText bounds what is kept of a reply, in bytes.
const maxText = 500

// clean makes foreign text fit for one line of a log, a page or the database.
func clean(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "..."
	}
	return strings.TrimSpace(s)
}
