// Package tabline reads and writes the lines of Dovecot's own protocols:
// fields separated by TAB, ended by LF, with SOH as the escape character
// (str_tabescape in Dovecot's lib/strescape.c):
//
//	SOH '1' = SOH, SOH 't' = TAB, SOH 'r' = CR, SOH 'n' = LF, SOH '0' = NUL
//
// Both the Lua scripts and Postfix's SASL client speak it to us.
package tabline

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// MaxLine is the longest line accepted, in octets with its LF. Dovecot's own
// limit for a login is 8 KiB.
const MaxLine = 8 << 10

// ErrTooLong marks a line beyond MaxLine. The connection is of no more use.
var ErrTooLong = errors.New("line is too long")

var (
	escaper   = strings.NewReplacer("\x01", "\x011", "\t", "\x01t", "\r", "\x01r", "\n", "\x01n", "\x00", "\x010")
	unescapes = map[byte]byte{'1': '\x01', 't': '\t', 'r': '\r', 'n': '\n', '0': '\x00'}
)

// Escape makes s fit into one field.
func Escape(s string) string { return escaper.Replace(s) }

// Unescape undoes Escape. As in Dovecot, an unknown escape stands for its
// second character, and an SOH at the end is dropped.
func Unescape(s string) string {
	if strings.IndexByte(s, '\x01') < 0 {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\x01' {
			out = append(out, s[i])
			continue
		}
		if i++; i == len(s) {
			break
		}
		c, known := unescapes[s[i]]
		if !known {
			c = s[i]
		}
		out = append(out, c)
	}
	return string(out)
}

// Split gives the fields of a line, unescaped.
func Split(line string) []string {
	fields := strings.Split(line, "\t")
	for i, f := range fields {
		fields[i] = Unescape(f)
	}
	return fields
}

// Join makes a line of fields, with its LF.
func Join(fields ...string) string {
	escaped := make([]string, len(fields))
	for i, f := range fields {
		escaped[i] = Escape(f)
	}
	return strings.Join(escaped, "\t") + "\n"
}

const (
	lineTimeout  = 5 * time.Second // to finish a line that has begun
	writeTimeout = 5 * time.Second
)

// Conn is a connection of lines, each read and write with a deadline.
type Conn struct {
	conn net.Conn
	r    *bufio.Reader
	idle time.Duration
	ctx  context.Context // the service's life, for as long as the connection's handler runs
	stop func() bool
}

// NewConn wraps c. A connection may be silent for idle; when ctx ends, a
// waiting ReadLine returns ctx's error, while a reply under way is finished.
// Call Release at the end.
func NewConn(ctx context.Context, c net.Conn, idle time.Duration) *Conn {
	t := &Conn{conn: c, r: bufio.NewReaderSize(c, MaxLine), idle: idle, ctx: ctx}
	t.stop = context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })
	return t
}

// Release lets go of the context.
func (t *Conn) Release() { t.stop() }

// ReadLine returns the next line without its LF (and CR). io.EOF means that
// the other side closed between two lines.
func (t *Conn) ReadLine() (string, error) {
	if err := t.await(t.idle); err != nil {
		return "", err
	}
	if _, err := t.r.Peek(1); err != nil {
		return "", t.because(err)
	}
	if err := t.await(lineTimeout); err != nil {
		return "", err
	}
	line, err := t.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return string(line), ErrTooLong // its beginning, to tell what it was
	}
	if err != nil {
		return "", fmt.Errorf("read a line: %w", t.because(err))
	}
	return strings.TrimSuffix(string(line[:len(line)-1]), "\r"), nil
}

// await sets the deadline, without losing ctx's end that may come just then.
func (t *Conn) await(d time.Duration) error {
	if err := t.conn.SetReadDeadline(time.Now().Add(d)); err != nil {
		return err
	}
	return t.ctx.Err()
}

func (t *Conn) because(err error) error {
	if t.ctx.Err() != nil {
		return t.ctx.Err()
	}
	return err
}

// Write sends text at once.
func (t *Conn) Write(text string) error {
	if err := t.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	if _, err := t.conn.Write([]byte(text)); err != nil {
		return fmt.Errorf("write a reply: %w", err)
	}
	return nil
}
