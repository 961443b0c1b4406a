package cli

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"regexp"

	"github.com/klauspost/compress/zstd"

	"understudy/internal/mbox"
)

// packWindow is the most memory that a compressed file may want, in bytes.
const packWindow = 64 << 20

// unpacked reads a file that is compressed, as old mailboxes are, and as
// Dovecot keeps the messages of a Maildir with its zlib plugin.
func unpacked(in io.Reader) (_ io.Reader, free func(), err error) {
	free = func() {}
	b := bufio.NewReaderSize(in, 64<<10)
	begin, err := b.Peek(4)
	if err != nil && err != io.EOF {
		return nil, free, err
	}
	switch {
	case bytes.HasPrefix(begin, []byte("\x1f\x8b")):
		z, err := gzip.NewReader(b)
		return z, free, err
	case bytes.HasPrefix(begin, []byte("\x28\xb5\x2f\xfd")):
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(packWindow))
		if err != nil {
			return nil, free, err
		}
		return z, z.Close, nil
	case bytes.HasPrefix(begin, []byte("BZh")), bytes.HasPrefix(begin, []byte("\xfd7zX")):
		return nil, free, errors.New("compressed by bzip2 or xz: unpack it first")
	}
	return b, free, nil
}

// fieldLine is a line that begins a header field.
var fieldLine = regexp.MustCompile(`(?m)^[!-9;-~]+[ \t]*:`)

// strange says why a file is no message. What is merely malformed is one.
func (m *incoming) strange() error {
	line, _, _ := bytes.Cut(m.head, []byte("\r\n"))
	header, _, _ := bytes.Cut(m.head, []byte("\r\n\r\n"))
	switch {
	case len(m.head) == 0:
		return errors.New("is empty")
	case mbox.IsSeparator(line):
		return errors.New("is an mbox file, with all its messages in one: use --format mbox")
	case bytes.IndexByte(m.head, 0) >= 0 && !fieldLine.Match(header):
		return errors.New("is no e-mail message: it has no header, and bytes that are no text")
	}
	return nil
}

// counted tells how much is read.
type counted struct {
	io.Reader
	tell func(int64)
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.tell(int64(n))
	return n, err
}

// untilError passes writes on until one fails, and keeps that error.
type untilError struct {
	w   io.Writer
	err error
}

func (u *untilError) Write(p []byte) (int, error) {
	if u.err == nil {
		_, u.err = u.w.Write(p)
	}
	return len(p), nil
}

// wireLines ends lines with CRLF that end with a bare LF, as Postfix does.
type wireLines struct {
	w  io.Writer
	cr bool // the last byte was CR
}

func (l *wireLines) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		i := bytes.IndexByte(rest, '\n')
		part := rest
		if i >= 0 {
			part = rest[:i]
		}
		if len(part) > 0 {
			if _, err := l.w.Write(part); err != nil {
				return 0, err
			}
			l.cr = part[len(part)-1] == '\r'
		}
		if i < 0 {
			break
		}
		end := "\r\n"
		if l.cr {
			end = "\n"
		}
		if _, err := io.WriteString(l.w, end); err != nil {
			return 0, err
		}
		l.cr, rest = false, rest[i+1:]
	}
	return len(p), nil
}
