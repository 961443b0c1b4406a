package archive

import (
	"archive/tar"
	"bytes"
	"strconv"
	"time"

	"github.com/google/uuid"
)

const tarBlock = 512

var zeros [tarBlock]byte

// entryHead makes what comes before a message of size bytes in its tar entry,
// behind what is in b: what archive/tar writes, at a tenth of its cost. Behind
// it the entry is padded to 512 bytes; there is no end-of-archive marker.
func entryHead(b []byte, e *Envelope, size int64) ([]byte, error) {
	records, err := paxRecords(e)
	if err != nil {
		return b, err
	}
	begin := len(b)
	b = append(b, zeros[:]...)
	for _, r := range records {
		if r[1] != "" {
			b = appendRecord(b, r[0], r[1])
		}
	}
	length := len(b) - begin - tarBlock
	b = append(b, zeros[:-length&(tarBlock-1)]...)
	name := e.ID.String() + nameSuffix
	extendedTemplate.fill(b[begin:begin+tarBlock], extendedPrefix, name, int64(length), 0)
	b = append(b, zeros[:]...)
	fileTemplate.fill(b[len(b)-tarBlock:], "", name, size, max(0, e.Received.Unix()))
	return b, nil
}

// appendRecord appends a pax record: its own length in decimal, a blank, the
// key, "=", the value and a newline.
func appendRecord(b []byte, key, value string) []byte {
	rest := len(key) + len(value) + 3
	n := rest + 1
	for n != rest+len(strconv.Itoa(n)) {
		n = rest + len(strconv.Itoa(n))
	}
	b = append(strconv.AppendInt(b, int64(n), 10), ' ')
	return append(append(append(append(b, key...), '='), value...), '\n')
}

// template is a header block without its name, size, time and checksum.
type template struct {
	block [tarBlock]byte
	sum   int64 // of its bytes, the checksum's own field counted as blanks
}

const extendedPrefix = "PaxHeaders.0/" // of an extended header's name

var extendedTemplate, fileTemplate = templates()

func templates() (extended, file template) {
	h, err := TarHeader(&Envelope{ID: uuid.Nil, Received: time.Unix(0, 0), Direction: Inbound}, 0)
	if err != nil {
		panic("the empty envelope is small: " + err.Error())
	}
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(h); err != nil {
		panic("the empty envelope is valid: " + err.Error())
	}
	return newTemplate(b.Bytes()[:tarBlock]), newTemplate(b.Bytes()[b.Len()-tarBlock:])
}

func newTemplate(block []byte) (t template) {
	copy(t.block[:], block)
	clear(t.block[:100])
	clear(t.block[124:156])
	t.sum = 8*' ' + sumOf(t.block[:])
	return t
}

// fill makes a header block (POSIX.1-2017, pax, "ustar Interchange Format"),
// named prefix and name.
func (t *template) fill(b []byte, prefix, name string, size, modified int64) {
	copy(b, t.block[:])
	copy(b[copy(b, prefix):], name)
	octal(b[124:136], size)
	octal(b[136:148], modified)
	octal(b[148:155], t.sum+sumOf(b[:100])+sumOf(b[124:148]))
	b[155] = ' '
}

func sumOf(b []byte) (sum int64) {
	for _, c := range b {
		sum += int64(c)
	}
	return sum
}

// octal fills a field with leading zeros and a NUL at its end. 11 digits hold
// any size that a record may have, and any time until the year 2242.
func octal(b []byte, v int64) {
	b[len(b)-1] = 0
	for i := len(b) - 2; i >= 0; i-- {
		b[i] = '0' + byte(v&7)
		v >>= 3
	}
}
