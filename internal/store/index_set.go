package store

import (
	"encoding/binary"
	"math/bits"
	"slices"
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

// join adds what is in other.
func (s set) join(other set) {
	for i, y := range other {
		s[i] |= y
	}
}
