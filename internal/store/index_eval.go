package store

import (
	"encoding/binary"
	"maps"
	"slices"
	"strings"

	"understudy/internal/query"
)

// posting is a row of a table of postings.
type posting struct {
	Word      string
	Field     int16
	Docs, Pos []byte
}

// dayIndex is what was read of a day to answer a query.
type dayIndex struct {
	plan   *plan
	info   *dayInfo
	rows   map[string][]posting // by word
	sorted []string             // its words, once they are needed in order
	times  []set                // of plan.times
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
		return d.sizes(n, among)
	case query.Time:
		return slices.Clone(d.times[slices.Index(d.plan.times, n)])
	case query.MessageID:
		s := d.none()
		d.each(isID, string(n), func(p posting) { s.addDocs(p.Docs) })
		for id, at := range d.plan.byID {
			if id.String() == string(n) && at.day().Equal(d.info.Day) {
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
	if d.sorted == nil {
		d.sorted = slices.Sorted(maps.Keys(d.rows))
	}
	at, _ := slices.BinarySearch(d.sorted, w.List[i])
	for ; at < len(d.sorted) && strings.HasPrefix(d.sorted[at], w.List[i]); at++ {
		if !strings.Contains(d.sorted[at], "@") {
			d.each(f, d.sorted[at], do)
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
		for low := int32(0); low < d.info.Next && !both.empty(); low += phraseMessages {
			some := slices.Clone(both)
			some.keep(low, low+phraseMessages)
			d.phrase(w, f, some, out)
		}
	}
	return out
}

// sizes compares the sizes that are the positions of their words.
func (d *dayIndex) sizes(n query.Size, among set) set {
	s := d.none()
	for _, w := range sizeWords(n) {
		d.each(ofSize, w, func(p posting) {
			eachDocPosOf(among, p.Docs, p.Pos, func(ord uint64, pos []byte) {
				x, used := binary.Uvarint(pos) // the only one
				if size := int64(x - 1); used > 0 && (n.Larger && size > n.Bytes || !n.Larger && size < n.Bytes) {
					s.add(ord)
				}
			})
		})
	}
	return s
}
