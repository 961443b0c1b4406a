package store

import (
	"cmp"
	"slices"

	"understudy/internal/query"
)

// phraseMessages is how many messages a phrase is looked for in at a time:
// what is kept of each costs many times its postings.
const phraseMessages = 1 << 16

// placed is where a message has a word, encoded.
type placed struct {
	ord uint64
	pos []byte
}

// phrase adds to out those messages of among, which have all words of w, that
// have them one behind the other.
func (d *dayIndex) phrase(w query.Words, f field, among, out set) {
	lists := make([][]placed, len(w.List)) // by ord
	for i := range lists {
		d.eachWord(w, i, f, func(p posting) {
			eachDocPosOf(among, p.Docs, p.Pos, func(ord uint64, pos []byte) { lists[i] = append(lists[i], placed{ord, pos}) })
		})
		slices.SortStableFunc(lists[i], func(a, b placed) int { return cmp.Compare(a.ord, b.ord) })
	}
	var ends, here []uint64
	for len(lists[0]) > 0 {
		ord := lists[0][0].ord
		for i := range lists {
			if here = positionsIn(&lists[i], ord, here[:0]); i > 0 {
				here = following(ends, here)
			}
			ends, here = here, ends
		}
		if len(ends) > 0 {
			out.add(ord)
		}
	}
}

// positionsIn returns the positions in one message, in their order, and takes
// it, and those before it, from the list.
func positionsIn(list *[]placed, ord uint64, out []uint64) []uint64 {
	l := *list
	for len(l) > 0 && l[0].ord < ord {
		l = l[1:]
	}
	n := 0
	for ; n < len(l) && l[n].ord == ord; n++ {
		out = positions(l[n].pos, out)
	}
	if n > 1 { // several words, or one that was read twice
		slices.Sort(out)
	}
	*list = l[n:]
	return out
}

// following returns those of here that are behind one of ends; both are in
// their order.
func following(ends, here []uint64) []uint64 {
	return slices.DeleteFunc(here, func(at uint64) bool {
		for len(ends) > 0 && ends[0]+1 < at {
			ends = ends[1:]
		}
		return len(ends) == 0 || ends[0]+1 != at
	})
}
