package store

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// rowsOf reads back what encode made.
func rowsOf(t *testing.T, data []byte) (out []posting) {
	t.Helper()
	data = data[len(copyHeader):]
	next := func() (v []byte) {
		n := int(int32(binary.BigEndian.Uint32(data)))
		v, data = data[4:4+n], data[4+n:]
		return v
	}
	for binary.BigEndian.Uint16(data) == 5 {
		data = data[2:]
		p := posting{Word: string(next()), Field: int16(binary.BigEndian.Uint16(next()))}
		next() // batch
		p.Docs, p.Pos = next(), next()
		out = append(out, p)
	}
	if !bytes.Equal(data, []byte{0xff, 0xff}) {
		t.Fatalf("% x is no end", data)
	}
	return out
}

func TestPostings(t *testing.T) {
	t.Parallel()
	p := newPostings()
	for n := range 1000 {
		p.add(inBody, "all", n, 1)
		p.add(inBody, "all", n, uint64(n)+50_000)
		if n%300 == 0 {
			p.add(inBody, "few", n, uint64(n)<<10+1)
			p.add(inFrom, "few", n, 0)
		}
	}
	rows := rowsOf(t, p.encode(70_000, 70_000, nil))
	if len(rows) != 3 || rows[0].Word != "all" || rows[1].Word != "few" || rows[1].Field != int16(inBody) || rows[2].Field != int16(inFrom) {
		t.Fatalf("rows %+v", rows)
	}
	want := map[uint64][]uint64{70_000: {1}, 70_300: {300<<10 + 1}, 70_600: {600<<10 + 1}, 70_900: {900<<10 + 1}}
	got := map[uint64][]uint64{}
	eachDocPos(slices.Concat(rows[1].Docs, rows[1].Docs), slices.Concat(rows[1].Pos, rows[1].Pos), func(ord uint64, pos []byte) { // batches behind each other
		got[ord] = positions(pos, nil)
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	n := 0
	eachDocPos(rows[0].Docs, rows[0].Pos, func(ord uint64, pos []byte) {
		if at := positions(pos, nil); ord != uint64(70_000+n) || !slices.Equal(at, []uint64{1, uint64(n) + 50_000}) {
			t.Errorf("message %d: %d at %v", n, ord, at)
		}
		n++
	})
	if n != 1000 || len(rows[0].Docs) > 1010 {
		t.Errorf("%d messages in %d bytes", n, len(rows[0].Docs))
	}
	for _, step := range []int{1, 2, 63, 64, 65, 300, 999} {
		some, n := make(set, 71_000/64+1), 0
		for ord := 70_000; ord < 71_000; ord += step {
			some.add(uint64(ord))
		}
		eachDocPosOf(some, rows[0].Docs, rows[0].Pos, func(ord uint64, pos []byte) {
			if at := positions(pos, nil); ord != uint64(70_000+n) || !slices.Equal(at, []uint64{1, uint64(n) + 50_000}) {
				t.Errorf("every %d: message %d: %d at %v", step, n, ord, at)
			}
			n += step
		})
		if n < 1000 {
			t.Errorf("every %d ended at %d", step, n)
		}
	}
	eachDocPos(rows[2].Docs, rows[2].Pos, func(ord uint64, pos []byte) {
		if len(pos) > 0 {
			t.Errorf("%d: position % x", ord, pos)
		}
	})
}

// FuzzPostings: bytes that are no posting list end it.
func FuzzPostings(f *testing.F) {
	f.Add([]byte{3, 1, 1, 1}, []byte{1, 0, 2, 0, 0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x0f, 0}, []byte{0x80})
	f.Fuzz(func(t *testing.T, docs, pos []byte) {
		n := 0
		some, odd := make(set, 4), 0
		some.addDocs(docs)
		for i := range some {
			some[i] &= 0xaaaa_aaaa_aaaa_aaaa
		}
		eachDocPos(docs, pos, func(ord uint64, pos []byte) {
			n++
			positions(pos, nil)
			if some.has(ord) {
				odd++
			}
		})
		eachDocPosOf(some, docs, pos, func(uint64, []byte) { odd-- })
		if odd != 0 {
			t.Errorf("%d messages more or less when only some are looked at", odd)
		}
		if n > len(docs) {
			t.Errorf("%d messages in %d bytes", n, len(docs))
		}
	})
}

func TestSet(t *testing.T) {
	t.Parallel()
	s := make(set, 3)
	for _, ord := range []uint64{0, 5, 63, 64, 100, 191, 192, 1 << 40} { // the last two have no place
		s.add(ord)
	}
	s.keep(5, 191)
	if got := s.top(2); !slices.Equal(got, []int32{100, 64}) {
		t.Errorf("the greatest are %v", got)
	}
	if got := s.top(10); !slices.Equal(got, []int32{63, 5}) || !s.empty() {
		t.Errorf("then %v, and %v is left", got, s)
	}
}

// eachDocPos is eachDocPosOf of all messages.
func eachDocPos(docs, pos []byte, f func(ord uint64, pos []byte)) {
	eachDoc(docs, func(ord uint64) {
		end := bytes.IndexByte(pos, 0)
		if end < 0 {
			return
		}
		f(ord, pos[:end])
		pos = pos[end+1:]
	})
}
