package archive

import (
	"bytes"
	"math/rand/v2"
	"os"
	"testing"
)

func randomBytes(seed uint64, n int) []byte {
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(seed, 9))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// largeSegment is sealed, of many records of many sizes, some larger than the
// scanner's buffer.
func largeSegment(t *testing.T) (dir, name string, content []byte, want []readBack) {
	t.Helper()
	dir = t.TempDir()
	w := openTest(t, dir, Options{})
	for i := range 200 {
		size := i * 53 % 5000
		if i%60 == 7 {
			size = scanBuffer + i*100
		}
		e, body := testEnvelope(i), randomBytes(uint64(i), size)
		want = append(want, readBack{*e, appendTest(t, w, e, body), string(body)})
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	name = want[0].Ref.Segment
	content, err := os.ReadFile(sealedPath(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return dir, name, content, want
}

// TestZeroedPages: a page that reads as zeros costs the records it touches.
func TestZeroedPages(t *testing.T) {
	t.Parallel()
	dir, name, content, want := largeSegment(t)
	rng := rand.New(rand.NewPCG(1, 1))
	for range 50 {
		from := rng.Int64N(int64(len(content))/4096) * 4096
		to := min(from+4096*(1+rng.Int64N(3)), int64(len(content)))
		broken := bytes.Clone(content)
		clear(broken[from:to])
		place(t, dir, name, broken)
		r, err := OpenSegment(dir, name)
		if err != nil {
			t.Fatal(err)
		}
		checkSurvivors(t, r, want, func(ref Ref) bool { return ref.Offset < to && ref.Offset+ref.Length > from })
	}
}

// TestGarbageInTheMiddle: bytes put anywhere, among them pieces of this
// segment itself, cost at most the record that they cut in two.
func TestGarbageInTheMiddle(t *testing.T) {
	t.Parallel()
	dir, name, content, want := largeSegment(t)
	rng := rand.New(rand.NewPCG(2, 2))
	for i := range 60 {
		at := rng.Int64N(int64(len(content)))
		junk := randomBytes(uint64(i), 1+rng.IntN(150<<10))
		switch i % 3 {
		case 1: // headers without what they promise
			junk = bytes.Repeat(content[:headerSize], 1+rng.IntN(300))
		case 2: // begins of headers
			junk = bytes.Repeat(content[:prefixSize], 1+rng.IntN(300))
		}
		place(t, dir, name, append(append(bytes.Clone(content[:at]), junk...), content[at:]...))
		r, err := OpenSegment(dir, name)
		if err != nil {
			t.Fatal(err)
		}
		checkSurvivors(t, r, want, func(ref Ref) bool { return ref.Offset < at && ref.Offset+ref.Length > at })
	}
}

// TestCutsAndFlipsOfManyRecords does what TestFlippedBytes does to a large
// sealed segment, at many places at once.
func TestCutsAndFlipsOfManyRecords(t *testing.T) {
	t.Parallel()
	dir, name, content, want := largeSegment(t)
	rng := rand.New(rand.NewPCG(3, 3))
	for range 40 {
		broken := bytes.Clone(content)
		cut := int64(len(content))
		if rng.IntN(2) == 0 {
			cut = rng.Int64N(cut)
		}
		touched := map[int64]bool{}
		for range 1 + rng.IntN(40) {
			at := rng.Int64N(int64(len(content)))
			touched[at] = true
			broken[at] ^= byte(1 + rng.IntN(255))
		}
		place(t, dir, name, broken[:cut])
		r, err := OpenSegment(dir, name)
		if err != nil {
			t.Fatal(err)
		}
		checkSurvivors(t, r, want, func(ref Ref) bool {
			for at := range touched {
				if at >= ref.Offset && at < ref.Offset+ref.Length {
					return true
				}
			}
			return ref.Offset+ref.Length > cut
		})
	}
}
