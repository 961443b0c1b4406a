package store

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
)

// A posting list says which messages of a day have a word in a field, and
// where. A message goes by its ord, its number within the day.
//
// docs is a sequence of blocks: the number of messages, the ord of the first,
// and the distance from each to the next. pos has for each message of docs the
// positions of the word: distances from 0 on, which are above 0, and a 0 that
// ends them. All numbers are unsigned varints (encoding/binary), so a byte 0 in
// pos is always such an end. Blocks can be put one behind the other: that is
// how batches become one.

// list is the posting list of one word in one field, of a batch.
type list struct {
	word      string
	docs, pos []byte // docs without its first two numbers
	n         uint64
	first     uint64 // within the batch
	last      uint64
	at        uint64 // position of the last
}

// postings collects the posting lists of a batch of messages.
type postings struct {
	lists  [fieldCount]map[string]*list
	spare  []list       // to be used next
	common [4096]recent // by hash: most words are among few
	words  int
}

// recent is a list that was found in its map.
type recent struct {
	word  string
	field field
	list  *list
}

var hashSeed = maphash.MakeSeed()

func newPostings() *postings {
	p := &postings{}
	for f := range p.lists {
		p.lists[f] = map[string]*list{}
	}
	return p
}

// add notes that message n of the batch has a word. A position counts from 1
// and never falls within a message; 0 is none. Messages come in their order.
func (p *postings) add(f field, word string, n int, position uint64) {
	doc := uint64(n)
	near := &p.common[maphash.String(hashSeed, word)%uint64(len(p.common))]
	l := near.list
	if near.word != word || near.field != f {
		if l = p.lists[f][word]; l != nil {
			near.word, near.field, near.list = l.word, f, l
		}
	}
	switch {
	case l == nil:
		if len(p.spare) == 0 {
			p.spare = make([]list, 256)
		}
		l = &p.spare[0]
		p.spare = p.spare[1:]
		l.word = strings.Clone(word) // it is part of a long text
		p.lists[f][l.word] = l
		p.words++
		l.n, l.first, l.last = 1, doc, doc
	case l.last != doc:
		l.docs = binary.AppendUvarint(l.docs, doc-l.last)
		l.pos = append(l.pos, 0)
		l.n++
		l.last, l.at = doc, 0
	}
	if position > l.at {
		l.pos = binary.AppendUvarint(l.pos, position-l.at)
		l.at = position
	}
}

// messages are those that have the word, in their order.
func (l *list) messages() []uint64 {
	out := append(make([]uint64, 0, l.n), l.first)
	for docs, at := l.docs, l.first; len(docs) > 0; {
		d, used := binary.Uvarint(docs)
		docs, at = docs[used:], at+d
		out = append(out, at)
	}
	return out
}

// keep removes the lists that are not in some.
func (p *postings) keep(some map[*list][]uint64) {
	for f := range p.lists {
		maps.DeleteFunc(p.lists[f], func(_ string, l *list) bool { return some[l] == nil })
	}
	p.words = len(some)
}

// copyHeader begins a binary COPY: its signature, no flags, no extension.
const copyHeader = "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// encode renders the lists as rows (day,) word, field, batch, docs, pos for a
// binary COPY, in the order of the tables' keys. base is the ord of message 0;
// day, in PostgreSQL's days, is left out when it is nil.
func (p *postings) encode(base, batch int32, day *int32) []byte {
	type row struct {
		f field
		l *list
	}
	rows := make([]row, 0, p.words)
	for f := range p.lists {
		for _, l := range p.lists[f] {
			rows = append(rows, row{field(f), l})
		}
	}
	slices.SortFunc(rows, func(a, b row) int {
		return cmp.Or(strings.Compare(a.l.word, b.l.word), cmp.Compare(a.f, b.f))
	})
	out := make([]byte, 0, 64*len(rows))
	out = append(out, copyHeader...)
	var head [2 * binary.MaxVarintLen64]byte
	for _, r := range rows {
		if day == nil {
			out = binary.BigEndian.AppendUint16(out, 5)
		} else {
			out = binary.BigEndian.AppendUint16(out, 6)
			out = binary.BigEndian.AppendUint32(out, 4)
			out = binary.BigEndian.AppendUint32(out, uint32(*day))
		}
		out = binary.BigEndian.AppendUint32(out, uint32(len(r.l.word)))
		out = append(out, r.l.word...)
		out = binary.BigEndian.AppendUint32(out, 2)
		out = binary.BigEndian.AppendUint16(out, uint16(r.f))
		out = binary.BigEndian.AppendUint32(out, 4)
		out = binary.BigEndian.AppendUint32(out, uint32(batch))
		n := binary.PutUvarint(head[:], r.l.n)
		n += binary.PutUvarint(head[n:], uint64(base)+r.l.first)
		out = binary.BigEndian.AppendUint32(out, uint32(n+len(r.l.docs)))
		out = append(append(out, head[:n]...), r.l.docs...)
		out = binary.BigEndian.AppendUint32(out, uint32(len(r.l.pos)+1))
		out = append(append(out, r.l.pos...), 0)
	}
	return binary.BigEndian.AppendUint16(out, 0xffff)
}

// eachDoc calls f for each message of a list, and ends at bytes that are none.
func eachDoc(docs []byte, f func(ord uint64)) {
	for len(docs) > 0 {
		n, used := binary.Uvarint(docs)
		if used <= 0 {
			return
		}
		docs = docs[used:]
		for ord := uint64(0); n > 0; n-- {
			var d uint64
			if len(docs) > 0 && docs[0] < 0x80 {
				d, used = uint64(docs[0]), 1
			} else if d, used = binary.Uvarint(docs); used <= 0 {
				return
			}
			docs = docs[used:]
			ord += d
			f(ord)
		}
	}
}

// eachDocPosOf is eachDoc of those messages that are in a set, with their encoded
// positions.
func eachDocPosOf(of set, docs, pos []byte, f func(ord uint64, pos []byte)) {
	behind := 0 // messages whose positions pos still begins with
	eachDoc(docs, func(ord uint64) {
		if !of.has(ord) {
			behind++
			return
		}
		pos = skipEnds(pos, behind)
		behind = 0
		end := bytes.IndexByte(pos, 0)
		if end < 0 {
			pos = nil
			return
		}
		f(ord, pos[:end])
		pos = pos[end+1:]
	})
}

// skipEnds returns what is behind the nth byte 0.
func skipEnds(pos []byte, n int) []byte {
	const stride = 64
	for n > 0 {
		if len(pos) > stride {
			if ends := bytes.Count(pos[:stride], []byte{0}); ends < n {
				n -= ends
				pos = pos[stride:]
				continue
			}
		}
		end := bytes.IndexByte(pos, 0)
		if end < 0 {
			return nil
		}
		pos, n = pos[end+1:], n-1
	}
	return pos
}

// positions decodes what eachDocPosOf gives.
func positions(pos []byte, out []uint64) []uint64 {
	for at := uint64(0); len(pos) > 0; {
		d, used := binary.Uvarint(pos)
		if used <= 0 {
			break
		}
		pos = pos[used:]
		at += d
		out = append(out, at)
	}
	return out
}
