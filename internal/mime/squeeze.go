package mime

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

const lineBytes = 1 << 20 // kept of a line

// limits are what is kept of a message.
type limits struct {
	part   int // bytes of each MIME part
	total  int // bytes of the message
	dashes int // lines that may be boundaries
	expect int // bytes that memory is taken for at once
}

var forIndex = limits{part: 2 << 20, total: 32 << 20, dashes: 5_000}

// squeeze reads a message of any size into bounded memory, through in: the
// begin of every MIME part, so that all headers are there and with them the
// names of all attachments. A part can only begin after a line that begins
// with "--" (RFC 2046 section 5.1.1), so only what follows long after one is
// left out.
//
// It also bounds how deep parts are nested: the time of the parser doubles
// with each level that is not closed. After so many definitions of a boundary,
// further ones are made unreadable, and their parts remain in one piece.
// changed says that not all is there as it was.
func squeeze(r io.Reader, in *bufio.Reader, keep limits) (data []byte, changed bool, err error) {
	var out bytes.Buffer
	out.Grow(keep.expect)
	in.Reset(r)
	run, dashes, boundaries := 0, 0, definitions{open: -1}
	for begin := true; ; {
		line, err := in.ReadSlice('\n')
		if begin && bytes.HasPrefix(line, []byte("--")) {
			run = 0
			dashes++
		}
		if dashes > keep.dashes || out.Len()+len(line) > keep.total {
			return out.Bytes(), true, nil
		}
		if !begin || run >= keep.part {
			changed = changed || len(line) > 0
		} else {
			at := out.Len()
			out.Write(line)
			changed = boundaries.line(out.Bytes(), at) || changed
		}
		run += len(line)
		switch {
		case err == nil:
			begin = true
		case errors.Is(err, bufio.ErrBufferFull):
			begin = false // the rest of an endless line is dropped
		case errors.Is(err, io.EOF):
			return out.Bytes(), changed, nil
		default:
			return out.Bytes(), changed, err
		}
	}
}
