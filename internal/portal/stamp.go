package portal

import (
	"bufio"
	"bytes"
	"strings"
)

// maxStamp bounds the trace header fields that Dovecot's LMTP puts on top, in
// bytes: three addresses of at most 320 octets and some host names.
const maxStamp = 8 << 10

// Envelope is how a message came to the portal.
type Envelope struct {
	Sender    string // "" is the null reverse-path
	Recipient string // as the client of LMTP wrote it
}

// Unstamp reads the trace header fields that our LMTP server puts on top of
// each message it delivers, and leaves r at the byte after them:
//
//	Return-Path: <sender>
//	Delivered-To: recipient
//	Received: from CLIENT
//		by PORTAL with LMTP
//		id ID
//		(envelope-from <sender>)
//		for <recipient>; DATE
//
// It returns their length in bytes. A message without exactly this on top was
// not delivered by LMTP but put there by its owner (IMAP APPEND, or a copy of
// sent mail): 0, and r is where it was. The owner can write such fields too:
// whether the recipient is the owner is for the caller to check.
func Unstamp(r *bufio.Reader) (Envelope, int) {
	head, _ := r.Peek(maxStamp) // short at the end of the message; an error of r shows at the next read
	e, n := parseStamp(head)
	r.Discard(n) //nolint:errcheck // they have been peeked
	return e, n
}

// parseStamp returns the length of the stamp at the start of head, or 0.
func parseStamp(head []byte) (Envelope, int) {
	rest := head
	returnPath, rest, ok1 := field(rest, "Return-Path: ")
	deliveredTo, rest, ok2 := field(rest, "Delivered-To: ")
	received, rest, ok3 := field(rest, "Received: from ")
	if !ok1 || !ok2 || !ok3 || !strings.HasPrefix(returnPath, "<") || !strings.HasSuffix(returnPath, ">") {
		return Envelope{}, 0
	}
	e := Envelope{Sender: returnPath[1 : len(returnPath)-1], Recipient: deliveredTo}
	if e.Recipient == "" || !isLMTP(received, e) {
		return Envelope{}, 0
	}
	return e, len(head) - len(rest)
}

// isLMTP checks the Received field's continuation lines.
func isLMTP(received string, e Envelope) bool {
	lines := strings.Split(received, "\r\n\t")
	if len(lines) < 5 {
		return false
	}
	lines = lines[len(lines)-4:] // TLS adds a line about itself before these
	by, protocol, ok := strings.Cut(lines[0], " with ")
	recipient, _, dated := strings.Cut(lines[3], ">; ")
	return ok && dated && strings.HasPrefix(by, "by ") &&
		(protocol == "LMTP" || protocol == "LMTPS" || protocol == "UTF8LMTP" || protocol == "UTF8LMTPS") && // RFC 3848, RFC 6531
		strings.HasPrefix(lines[1], "id ") &&
		lines[2] == "(envelope-from <"+e.Sender+">)" &&
		recipient == "for <"+e.Recipient
}

// field takes a header field with its continuation lines, without the name
// and the last CRLF, from the start of head.
func field(head []byte, name string) (value string, rest []byte, ok bool) {
	if !bytes.HasPrefix(head, []byte(name)) {
		return "", head, false
	}
	for i := len(name); ; {
		end := bytes.Index(head[i:], []byte("\r\n"))
		if end < 0 || i+end+2 >= len(head) { // unfinished, or no byte that tells whether it goes on
			return "", head, false
		}
		if i += end + 2; head[i] != ' ' && head[i] != '\t' {
			return string(head[len(name) : i-2]), head[i:], true
		}
	}
}
