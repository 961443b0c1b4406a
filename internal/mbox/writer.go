package mbox

import (
	"bufio"
	"bytes"
	"io"
	"time"
)

// Writer writes an mbox file.
type Writer struct{ out *bufio.Writer }

// NewWriter writes to out; call Flush at the end.
func NewWriter(out io.Writer) *Writer { return &Writer{bufio.NewWriterSize(out, 64<<10)} }

// Add writes a message.
func (w *Writer) Add(sender string, date time.Time, body io.Reader) error {
	if _, err := w.out.WriteString(fromLine(sender, date)); err != nil {
		return err
	}
	in := bufio.NewReaderSize(body, 64<<10)
	for begin := true; ; {
		line, err := in.ReadSlice('\n')
		switch {
		case err == bufio.ErrBufferFull && line[len(line)-1] == '\r': // belongs to the LF that may follow
			line = line[:len(line)-1]
			in.UnreadByte() //nolint:errcheck // a byte was just read
			err = nil
		case err == bufio.ErrBufferFull:
			err = nil
		case err != nil && err != io.EOF:
			return err
		}
		if begin && (bytes.HasPrefix(line, from) || quoted(line)) {
			w.out.WriteByte('>') //nolint:errcheck // sticky, see Flush
		}
		whole := bytes.HasSuffix(line, []byte("\n"))
		w.out.Write(trimEnd(line)) //nolint:errcheck // sticky, see Flush
		if whole || err == io.EOF && len(line) > 0 {
			w.out.WriteByte('\n') //nolint:errcheck // sticky, see Flush
		}
		if begin = whole; err == io.EOF {
			return w.out.WriteByte('\n')
		}
	}
}

// Flush writes what is buffered and returns the first error of all writing.
func (w *Writer) Flush() error { return w.out.Flush() }
