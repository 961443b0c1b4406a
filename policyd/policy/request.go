// Package policy answers Postfix's policy delegation protocol
// (SMTPD_POLICY_README): may this client relay, is this recipient known, can
// the portal keep this message.
//
// Everything is answered from the directory in memory. When PostgreSQL is
// down the last known directory answers. When there is no directory at all,
// every answer is a temporary failure: "unknown" would refuse mail that is
// ours for good. When policyd itself is gone, Postfix answers with the
// default_action of its configuration, 451.
package policy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"understudy/policyd/session"
)

// Bounds of one request. Postfix sends about 30 attributes, and no line of an
// SMTP client that it forwards is longer than line_length_limit (2048).
const (
	maxAttributes = 100
	maxLineBytes  = 4 << 10
	maxBytes      = 64 << 10
)

// Policy contexts: the policy_context of a check_policy_service in main.cf or
// master.cf, which says in which place Postfix asks.
const (
	ContextRecipient  = "recipient"  // public SMTP, each RCPT; also meant by ""
	ContextRelay      = "relay"      // in smtpd_relay_restrictions: may this client relay?
	ContextSubmission = "submission" // RCPT of a signed-in portal user
	ContextReentry    = "reentry"    // RCPT of mail that just failed at its primary (relay-auto)
	// RCPT of what is to go to the portal and says nothing of a primary: address verification (probe-auto), what the worker sends.
	ContextReentryQuiet = "reentry_quiet"
)

// Request holds the attributes that decide. All are as the SMTP client sent
// them: neither normalised nor safe to print.
type Request struct {
	State         string // protocol_state
	Context       string // policy_context
	ClientAddress string // client_address, an IP address
	ClientPort    string // client_port
	ServerAddress string // server_address, where the client connected to
	ServerPort    string // server_port
	Sender        string // envelope sender, "" for the null sender
	Recipient     string // envelope recipient
	Login         string // sasl_username, "" for who is not signed in
}

// field returns where the attribute is kept, nil if it decides nothing.
func (r *Request) field(name string) *string {
	switch name {
	case "protocol_state":
		return &r.State
	case "policy_context":
		return &r.Context
	case "client_address":
		return &r.ClientAddress
	case "client_port":
		return &r.ClientPort
	case "server_address":
		return &r.ServerAddress
	case "server_port":
		return &r.ServerPort
	case "sender":
		return &r.Sender
	case "recipient":
		return &r.Recipient
	case "sasl_username":
		return &r.Login
	}
	return nil
}

// Read reads one request: lines of name=value, ended by an empty line. The
// error is session.ErrMalformed, or of the connection. The reader's buffer
// must be maxLineBytes long: it bounds the line.
func Read(r *bufio.Reader) (Request, error) {
	var req Request
	var kind string
	total := 0
	for n := 0; ; n++ {
		line, err := r.ReadSlice('\n')
		total += len(line)
		switch {
		case errors.Is(err, bufio.ErrBufferFull) || total > maxBytes:
			return req, fmt.Errorf("%w: line or request too long", session.ErrMalformed)
		case errors.Is(err, io.EOF) && total > 0:
			return req, io.ErrUnexpectedEOF
		case err != nil:
			return req, err
		}
		line = line[:len(line)-1]
		if len(line) == 0 {
			break
		}
		if n == maxAttributes {
			return req, fmt.Errorf("%w: more than %d attributes", session.ErrMalformed, maxAttributes)
		}
		if err := req.set(line, &kind); err != nil {
			return req, err
		}
	}
	if kind != "smtpd_access_policy" || req.State == "" {
		return req, fmt.Errorf("%w: request type %.32q, protocol_state %.32q", session.ErrMalformed, kind, req.State)
	}
	return req, nil
}

// set takes one line. An attribute that decides may come once only: of two
// recipients, none is sure.
func (r *Request) set(line []byte, kind *string) error {
	name, value, ok := bytes.Cut(line, []byte{'='})
	if !ok || len(name) == 0 || bytes.IndexByte(line, 0) >= 0 {
		return fmt.Errorf("%w: line %.64q", session.ErrMalformed, line)
	}
	field := kind
	if string(name) != "request" {
		field = r.field(string(name))
	}
	if field == nil {
		return nil
	}
	if *field != "" {
		return fmt.Errorf("%w: attribute %s twice", session.ErrMalformed, name)
	}
	*field = string(value)
	return nil
}
