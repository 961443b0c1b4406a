package mime

import "bytes"

const maxBoundaries = 14 // lines that may define one

var boundary = []byte("boundary")

// definitions counts the lines that may define a boundary. Of further ones it
// makes the name unreadable.
type definitions struct {
	lines int
	open  int    // begin of a definition that the next line would finish; -1: there is none
	lower []byte // the line, in lower case
}

// line looks at the last line of text, which begins at a place. It reports
// whether it changed any.
func (d *definitions) line(text []byte, at int) (changed bool) {
	if d.open >= 0 && at < len(text) && (text[at] == ' ' || text[at] == '\t') {
		changed = d.take(text, []int{d.open})
	}
	d.open = -1
	d.lower = asciiLower(d.lower[:0], text[at:])
	var found []int
	for i := 0; ; {
		n := bytes.Index(d.lower[i:], boundary)
		if n < 0 {
			return len(found) > 0 && d.take(text, found) || changed
		}
		begin := i + n
		i = definition(d.lower, begin+len(boundary))
		if i == len(d.lower) {
			d.open = at + begin
		} else if d.lower[i] == '=' {
			found = append(found, at+begin)
		}
	}
}

// definition skips what may stand between the name and the "=" of what defines
// a boundary (RFC 2045 section 5.1, RFC 2231 section 3), also within encoded
// words, which the parser reads here too. At the end of a line the rest may
// follow on the next, folded one.
func definition(line []byte, i int) int {
	for i < len(line) && (line[i] >= '0' && line[i] <= '9' || bytes.IndexByte([]byte("* \t\r\n_?"), line[i]) >= 0) {
		i++
	}
	return i
}

// take counts a line with definitions at these places.
func (d *definitions) take(text []byte, places []int) (changed bool) {
	if d.lines++; d.lines <= maxBoundaries {
		return false
	}
	for _, at := range places {
		text[at] = 'x'
	}
	return true
}

// asciiLower appends line to out and changes A to Z only, so that places in
// the text stay the same.
func asciiLower(out, line []byte) []byte {
	out = append(out, line...)
	for i, c := range out {
		if c >= 'A' && c <= 'Z' {
			out[i] = c + 'a' - 'A'
		}
	}
	return out
}
