// Package socketmap answers Postfix's socketmap lookups (socketmap_table(5)):
// transport, relay_domains, probe, sender_login and delivery_status_*.
//
// Everything is answered from the directory in memory. When PostgreSQL is
// down the last known directory answers. When there is no directory at all,
// every answer is TEMP: Postfix defers, nothing bounces. When policyd itself
// is gone, Postfix defers as well.
package socketmap

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"

	"understudy/policyd/session"
)

// Bounds of the protocol. Postfix takes replies of at most 100000 bytes.
const (
	maxRequestBytes = 10 << 10
	maxReplyBytes   = 100_000
	bufferBytes     = 4 << 10
)

// Query is one lookup.
type Query struct{ Map, Key string }

// Read reads one request: the netstring "LENGTH:MAP KEY,". The error is
// session.ErrMalformed, or of the connection.
func Read(r *bufio.Reader) (Query, error) {
	n, err := readLength(r)
	if err != nil {
		return Query{}, err
	}
	body := make([]byte, n+1)
	if _, err := io.ReadFull(r, body); err != nil {
		return Query{}, unexpected(err)
	}
	if body[n] != ',' {
		return Query{}, fmt.Errorf("%w: netstring without its comma", session.ErrMalformed)
	}
	name, key, ok := bytes.Cut(body[:n], []byte{' '})
	if !ok {
		return Query{}, fmt.Errorf("%w: no key in %.64q", session.ErrMalformed, body[:n])
	}
	return Query{Map: string(name), Key: string(key)}, nil
}

// readLength reads the decimal length and its colon, and checks it before
// any memory is taken.
func readLength(r *bufio.Reader) (int, error) {
	n := 0
	for digits := 0; ; digits++ {
		c, err := r.ReadByte()
		switch {
		case err != nil && digits > 0:
			return 0, unexpected(err)
		case err != nil:
			return 0, err
		case c == ':' && digits > 0:
			return n, nil
		case c < '0' || c > '9' || digits > 0 && n == 0: // a second digit after a leading zero
			return 0, fmt.Errorf("%w: netstring length", session.ErrMalformed)
		}
		if n = 10*n + int(c-'0'); n > maxRequestBytes {
			return 0, fmt.Errorf("%w: request longer than %d bytes", session.ErrMalformed, maxRequestBytes)
		}
	}
}

// unexpected says that the end of the stream is not at the end of a request.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// netstring wraps a reply.
func netstring(s string) []byte {
	b := make([]byte, 0, len(s)+8)
	b = strconv.AppendInt(b, int64(len(s)), 10)
	b = append(b, ':')
	b = append(b, s...)
	return append(b, ',')
}
