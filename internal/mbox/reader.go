// Package mbox reads and writes mbox files (RFC 4155, in the "mboxrd" form
// that can be undone) and writes Maildir directories.
//
// In a mailbox file lines end with LF, on the wire with CRLF: Writer turns
// CRLF into LF, Reader gives every line CRLF. A line of a message that begins
// with any number of ">" and "From " gets one ">" more when written, and loses
// one when read. Only a message with a bare CR or LF, or without an end of its
// last line, does not come back byte for byte.
package mbox

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
)

// ErrFormat is returned for a file that does not begin like an mbox file.
var ErrFormat = errors.New("not an mbox file: its first line does not begin with \"From \" and a date")

var (
	from       = []byte("From ")
	looksDated = regexp.MustCompile(`\d:\d\d.*\d{4}|\d{4}.*\d:\d\d`)
)

// Separator is what the line in front of a message says.
type Separator struct {
	Sender string    // as written: often an envelope sender, or "-", or "MAILER-DAEMON"
	Date   time.Time // zero when it cannot be read
}

// Reader reads an mbox file message by message, in bounded memory.
type Reader struct {
	in   *bufio.Reader
	next *Separator // of the message that follows, already read
	err  error      // at the end
}

// NewReader reads from in.
func NewReader(in io.Reader) *Reader { return &Reader{in: bufio.NewReaderSize(in, 64<<10)} }

// Next writes the next message to w, its lines ended by CRLF. At the end of
// the file it returns io.EOF.
func (r *Reader) Next(w io.Writer) (Separator, error) {
	if r.next == nil && r.err == nil {
		if err := r.first(); err != nil {
			r.err = err
		}
	}
	if r.next == nil {
		return Separator{}, r.err
	}
	sep := *r.next
	r.next = nil
	return sep, r.message(w)
}

// first finds the file's first separator; empty lines may precede it.
func (r *Reader) first() error {
	for {
		line, err := r.line()
		if len(line) == 0 && err != nil {
			return err
		}
		if sep := separator(line); sep != nil {
			r.next = sep
			return nil
		}
		if len(trimEnd(line)) > 0 {
			return ErrFormat
		}
	}
}

// message copies lines up to the next separator, which follows an empty line
// that is not part of the message.
func (r *Reader) message(w io.Writer) error {
	empty, begin := 0, true // lines held back; whether the next piece begins a line
	for {
		line, err := r.line()
		if len(line) == 0 && err != nil {
			if r.err = err; err == io.EOF {
				return r.blank(w, max(0, empty-1))
			}
			return err
		}
		whole := bytes.HasSuffix(line, []byte("\n"))
		if begin && whole && empty > 0 {
			if sep := separator(line); sep != nil {
				r.next = sep
				return r.blank(w, empty-1)
			}
		}
		text := trimEnd(line)
		if begin && whole && len(text) == 0 {
			empty++
			continue
		}
		if err := r.blank(w, empty); err != nil {
			return err
		}
		empty = 0
		if begin && quoted(text) {
			text = text[1:]
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
		if begin = whole || err == io.EOF; begin {
			if err := r.blank(w, 1); err != nil {
				return err
			}
		}
	}
}

func (r *Reader) blank(w io.Writer, n int) error {
	for range n {
		if _, err := io.WriteString(w, "\r\n"); err != nil {
			return err
		}
	}
	return nil
}

// line returns a line with its end, or a piece of one too long for the buffer.
func (r *Reader) line() ([]byte, error) {
	line, err := r.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		if line[len(line)-1] == '\r' { // belongs to the LF that may follow
			line = line[:len(line)-1]
			r.in.UnreadByte() //nolint:errcheck // a byte was just read
		}
		return line, nil
	}
	return line, err
}

func trimEnd(line []byte) []byte {
	if t, ok := bytes.CutSuffix(line, []byte("\n")); ok {
		return bytes.TrimSuffix(t, []byte("\r"))
	}
	return line
}

// quoted reports a line of one or more ">" and "From ".
func quoted(line []byte) bool {
	return len(line) > 0 && line[0] == '>' && bytes.HasPrefix(bytes.TrimLeft(line, ">"), from)
}

// IsSeparator reports a line that begins a message of an mbox file.
func IsSeparator(line []byte) bool { return separator(line) != nil }

// separator parses a line "From SENDER DATE"; nil when it is none.
func separator(line []byte) *Separator {
	if !bytes.HasPrefix(line, from) || !looksDated.Match(line) {
		return nil
	}
	sender, date, _ := strings.Cut(string(trimEnd(line[len(from):])), " ")
	return &Separator{Sender: sender, Date: parseDate(strings.TrimSpace(date))}
}

// parseDate reads the dates that programs write: that of asctime (RFC 4155),
// with a zone in either place.
func parseDate(s string) time.Time {
	for _, layout := range []string{time.ANSIC, "Mon Jan _2 15:04:05 -0700 2006", "Mon Jan _2 15:04:05 2006 -0700",
		time.UnixDate, "Mon Jan _2 15:04 2006", time.RFC1123Z} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}

// fromLine is the separator that Writer writes.
func fromLine(sender string, date time.Time) string {
	if sender == "" || strings.ContainsFunc(sender, func(r rune) bool { return r <= ' ' || r > '~' }) {
		sender = "MAILER-DAEMON" // as for the null reverse-path
	}
	return fmt.Sprintf("From %s %s\n", sender, date.UTC().Format(time.ANSIC))
}
