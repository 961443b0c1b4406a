package mime

import (
	"bufio"
	"bytes"
	"io"
	"strings"
)

// DropFields reads a message without the header fields of these names (in
// lower case); every other byte stays as it is. It reads ahead no more than a
// few KB.
func DropFields(r io.Reader, names ...string) io.Reader {
	in := bufio.NewReaderSize(r, 4<<10)
	return &dropper{in: in, names: names, start: true}
}

type dropper struct {
	in    *bufio.Reader
	names []string
	rest  []byte // to be returned before anything is read; of in's buffer
	start bool   // at the start of a line
	drop  bool   // the field that is being read goes
	body  bool   // the header is over
}

func (d *dropper) Read(p []byte) (int, error) {
	for len(d.rest) == 0 {
		if d.body {
			return d.in.Read(p)
		}
		line, err := d.in.ReadSlice('\n')
		if len(line) == 0 {
			return 0, err
		}
		if d.start {
			d.look(line)
		}
		d.start = line[len(line)-1] == '\n'
		if !d.drop {
			d.rest = line
		}
	}
	n := copy(p, d.rest)
	d.rest = d.rest[n:]
	return n, nil
}

// look decides about a line, or the begin of a long one.
func (d *dropper) look(line []byte) {
	if line[0] == ' ' || line[0] == '\t' { // folded: goes with its field
		return
	}
	d.drop = false
	if len(bytes.TrimRight(line, "\r\n")) == 0 {
		d.body = true
		return
	}
	name, _, ok := bytes.Cut(line, []byte(":"))
	if !ok {
		return
	}
	lower := strings.ToLower(strings.TrimSpace(string(name)))
	for _, n := range d.names {
		d.drop = d.drop || n == lower
	}
}
