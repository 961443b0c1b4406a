package store

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"strings"

	"understudy/internal/query"
)

// set is a set of a day's messages, by ord.
type set []uint64

func (s set) add(ord uint64) {
	if i := ord >> 6; i < uint64(len(s)) {
		s[i] |= 1 << (ord & 63)
	}
}

// addDocs adds all messages of a posting list: eachDoc without its calls, which
// are most of the work where a word is common.
func (s set) addDocs(docs []byte) {
	for len(docs) > 0 {
		n, used := binary.Uvarint(docs)
		if used <= 0 {
			return
		}
		docs = docs[used:]
		for ord := uint64(0); n > 0; n-- {
			if len(docs) > 0 && docs[0] < 0x80 {
				ord += uint64(docs[0])
				docs = docs[1:]
			} else {
				d, used := binary.Uvarint(docs)
				if used <= 0 {
					return
				}
				ord += d
				docs = docs[used:]
			}
			s.add(ord)
		}
	}
}

func (s set) has(ord uint64) bool {
	i := ord >> 6
	return i < uint64(len(s)) && s[i]&(1<<(ord&63)) != 0
}

func (s set) empty() bool { return !slices.ContainsFunc(s, func(x uint64) bool { return x != 0 }) }

// top returns at most n of the set, the greatest first, and removes them.
func (s set) top(n int) (out []int32) {
	for i := len(s) - 1; i >= 0 && len(out) < n; i-- {
		for s[i] != 0 && len(out) < n {
			bit := 63 - bits.LeadingZeros64(s[i])
			out = append(out, int32(i<<6+bit))
			s[i] &^= 1 << bit
		}
	}
	return out
}

// posting is a row of a table of postings.
type posting struct {
	Word      string
	Field     int16
	Docs, Pos []byte
}

// dayIndex is what was read of a day to answer a query.
type dayIndex struct {
	plan  *plan
	info  *dayInfo
	rows  map[string][]posting // by word
	times []set                // of plan.times
}

func (d *dayIndex) none() set { return make(set, (d.info.Next+63)/64) }

// all is every message there can be.
func (d *dayIndex) all() set {
	s := d.none()
	for i := range s {
		s[i] = ^uint64(0)
	}
	s.keep(0, d.info.Next)
	return s
}

// keep removes what is not from low to below high.
func (s set) keep(low, high int32) {
	for i := range s {
		begin := int32(i) << 6
		if n := low - begin; n >= 64 {
			s[i] = 0
		} else if n > 0 {
			s[i] &= ^uint64(0) << n
		}
		if n := high - begin; n <= 0 {
			s[i] = 0
		} else if n < 64 {
			s[i] &= 1<<n - 1
		}
	}
}

// eval returns the messages of the day of which a node is true. Only for
// those of among it must be right: And looks at fewer from node to node. The
// caller may change the set.
func (d *dayIndex) eval(n query.Node, among set) set {
	switch n := n.(type) {
	case query.And:
		s := slices.Clone(among)
		for _, x := range n {
			if s.empty() {
				break
			}
			for i, y := range d.eval(x, s) {
				s[i] &= y
			}
		}
		return s
	case query.Or:
		s := d.none()
		for _, x := range n {
			s.join(d.eval(x, among))
		}
		return s
	case query.Not:
		s := slices.Clone(among)
		for i, y := range d.eval(n.Of, among) {
			s[i] &^= y
		}
		return s
	case query.Words:
		return d.words(n, among)
	case query.Size:
		return d.sizes(n)
	case query.Time:
		return slices.Clone(d.times[slices.Index(d.plan.times, n)])
	case query.MessageID:
		s := d.none()
		d.each(isID, string(n), func(p posting) { s.addDocs(p.Docs) })
		for id, at := range d.plan.byID {
			if id.String() == string(n) && at.day.Equal(d.info.Day) {
				s.add(uint64(at.ord))
			}
		}
		return s
	}
	s := d.none()
	for _, t := range d.plan.terms(n) {
		d.each(t.field, t.word, func(p posting) { s.addDocs(p.Docs) })
	}
	return s
}

func (s set) join(other set) {
	for i, y := range other {
		s[i] |= y
	}
}

// each calls f for the postings of a word in a field.
func (d *dayIndex) each(f field, word string, do func(posting)) {
	for _, p := range d.rows[word] {
		if p.Field == int16(f) {
			do(p)
		}
	}
}

// eachWord is each for word number i of w, which may stand for many.
func (d *dayIndex) eachWord(w query.Words, i int, f field, do func(posting)) {
	if !w.Prefix || i < len(w.List)-1 {
		d.each(f, w.List[i], do)
		return
	}
	for word := range d.rows {
		if strings.HasPrefix(word, w.List[i]) && !strings.Contains(word, "@") {
			d.each(f, word, do)
		}
	}
}

// words finds words one behind the other, in one field.
func (d *dayIndex) words(w query.Words, among set) set {
	out := d.none()
	for _, f := range textFields(w.Field) {
		if len(w.List) == 1 {
			d.eachWord(w, 0, f, func(p posting) { out.addDocs(p.Docs) })
			continue
		}
		both := slices.Clone(among)
		for i := range w.List {
			s := d.none()
			d.eachWord(w, i, f, func(p posting) { s.addDocs(p.Docs) })
			for i, x := range s {
				both[i] &= x
			}
		}
		if !both.empty() {
			d.phrase(w, f, both, out)
		}
	}
	return out
}

// phrase adds to out those messages of among, which have all words of w, that
// have them one behind the other.
func (d *dayIndex) phrase(w query.Words, f field, among, out set) {
	ends := map[uint64][]uint64{} // by message: where the words so far end
	for i := range w.List {
		here := make(map[uint64][]uint64, len(ends))
		d.eachWord(w, i, f, func(p posting) {
			eachDocPosOf(among, p.Docs, p.Pos, func(ord uint64, pos []byte) { here[ord] = positions(pos, here[ord]) })
		})
		if i > 0 {
			for ord, list := range here {
				slices.Sort(list) // of several words
				here[ord] = slices.DeleteFunc(list, func(at uint64) bool {
					_, ok := slices.BinarySearch(ends[ord], at-1)
					return !ok
				})
			}
		}
		among = d.none()
		for ord, list := range here {
			if i == 0 || len(list) > 0 {
				among.add(ord)
			}
		}
		ends = here
	}
	out.join(among)
}

// sizes compares the sizes that are the positions of their words.
func (d *dayIndex) sizes(n query.Size) set {
	s := d.none()
	for _, w := range sizeWords(n) {
		d.each(ofSize, w, func(p posting) {
			eachDocPos(p.Docs, p.Pos, func(ord uint64, pos []byte) {
				for _, x := range positions(pos, nil) {
					if size := int64(x - 1); n.Larger && size > n.Bytes || !n.Larger && size < n.Bytes {
						s.add(ord)
					}
				}
			})
		})
	}
	return s
}
