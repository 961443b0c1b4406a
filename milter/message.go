package main

import (
	"strings"

	"understudy/internal/archive"
)

// message puts together again the bytes that the SMTP client sent, from the
// pieces in which the milter protocol shows them.
//
// Postfix sends a header as name and value, with the bytes between the colon
// and the value (SMFIP_HDR_LEADSPC) and folded lines parted by LF alone; the
// body comes as it is, with CRLF. The empty line between them is never shown.
type message struct {
	spool *archive.Spool
	err   error // of the first write that did not succeed
}

// header adds one header field.
func (m *message) header(name, value string) {
	var b strings.Builder
	b.Grow(len(name) + len(value) + 8)
	b.WriteString(name)
	b.WriteByte(':')
	for i, line := range splitLines(value) {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(line)
	}
	b.WriteString("\r\n")
	m.write([]byte(b.String()))
}

// splitLines parts a header value at each LF; a CR before it is part of the
// line end.
func splitLines(value string) []string {
	lines := strings.Split(value, "\n")
	for i := range len(lines) - 1 {
		lines[i] = strings.TrimSuffix(lines[i], "\r")
	}
	return lines
}

// endOfHeader adds the empty line.
func (m *message) endOfHeader() { m.write([]byte("\r\n")) }

// body adds a piece of the body.
func (m *message) body(chunk []byte) { m.write(chunk) }

func (m *message) write(p []byte) {
	if m.err == nil {
		_, m.err = m.spool.Write(p)
	}
}
