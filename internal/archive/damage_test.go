package archive

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"
)

// smallSegment writes n messages and returns the sealed segment's name and
// bytes, and its records.
func smallSegment(t testing.TB, n int) (name string, content []byte, want []readBack) {
	t.Helper()
	dir := t.TempDir()
	w := openTest(t, dir, Options{})
	for i := range n {
		body := bytes.Repeat(fmt.Appendf(nil, "message %d\r\n", i), 20)
		e := testEnvelope(i)
		want = append(want, readBack{*e, appendTest(t, w, e, body), string(body)})
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	segments, err := Segments(dir)
	if err != nil || len(segments) != 1 {
		t.Fatal(segments, err)
	}
	content, err = os.ReadFile(segments[0].Path)
	if err != nil {
		t.Fatal(err)
	}
	return segments[0].Name, content, want
}

// place puts a segment's bytes into an archive, sealed.
func place(t testing.TB, dir, name string, content []byte) string {
	t.Helper()
	path := sealedPath(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o640); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadsCutSegment(t *testing.T) {
	t.Parallel()
	name, content, want := smallSegment(t, 3)
	dir := t.TempDir()
	path := place(t, dir, name, content)
	for cut := int64(len(content)); cut >= 0; cut-- {
		if err := os.Truncate(path, cut); err != nil {
			t.Fatal(err)
		}
		whole, end := 0, int64(0)
		for whole < len(want) && want[whole].Ref.Offset+want[whole].Ref.Length <= cut {
			end = want[whole].Ref.Offset + want[whole].Ref.Length
			whole++
		}
		got, damaged := readSegment(t, dir, name)
		if len(got) != whole || damaged != cut-end {
			t.Fatalf("cut at %d: %d records and %d damaged bytes, want %d and %d", cut, len(got), damaged, whole, cut-end)
		}
	}
}

func TestRecoversCutSegment(t *testing.T) {
	t.Parallel()
	name, content, want := smallSegment(t, 3)
	for cut := 0; cut <= len(content); cut += 7 {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, openDir), 0o750); err != nil {
			t.Fatal(err)
		}
		torn := append(bytes.Clone(content[:cut]), make([]byte, cut%3*100)...) // zeros, as some file systems leave
		if err := os.WriteFile(openPath(dir, name), torn, 0o640); err != nil {
			t.Fatal(err)
		}
		whole, end := 0, int64(0)
		for whole < len(want) && want[whole].Ref.Offset+want[whole].Ref.Length <= int64(cut) {
			end = want[whole].Ref.Offset + want[whole].Ref.Length
			whole++
		}
		w := openTest(t, dir, Options{})
		segments, err := Segments(dir)
		if err != nil {
			t.Fatal(err)
		}
		if whole == 0 && len(segments) != 0 {
			t.Fatalf("cut at %d: an empty segment was kept: %v", cut, segments)
		}
		if whole > 0 && (len(segments) != 1 || segments[0].Open || segments[0].Size != end) {
			t.Fatalf("cut at %d: recovered %+v, want one sealed segment of %d bytes", cut, segments, end)
		}
		if got, damaged := readAll(t, dir); len(got) != whole || damaged != 0 {
			t.Fatalf("cut at %d: %d records, %d damaged bytes", cut, len(got), damaged)
		}
		w.Close()
	}
}

// TestFlippedBytes damages each byte in turn: only the record that holds it
// may be lost.
func TestFlippedBytes(t *testing.T) {
	t.Parallel()
	name, content, want := smallSegment(t, 3)
	dir := t.TempDir()
	path := place(t, dir, name, content)
	for i := range content {
		broken := bytes.Clone(content)
		broken[i] ^= byte(1 + i%255)
		if err := os.WriteFile(path, broken, 0o640); err != nil {
			t.Fatal(err)
		}
		got, damaged := readSegment(t, dir, name)
		var expected []readBack
		var lost int64
		for _, s := range want {
			if int64(i) >= s.Ref.Offset && int64(i) < s.Ref.Offset+s.Ref.Length {
				lost = s.Ref.Length
				if _, err := ReadRecord(dir, s.Ref); !errors.Is(err, ErrDamaged) {
					t.Fatalf("byte %d flipped: ReadRecord says %v", i, err)
				}
				continue
			}
			expected = append(expected, s)
		}
		if len(got) != len(expected) || damaged != lost {
			t.Fatalf("byte %d flipped: %d records and %d damaged bytes, want %d and %d", i, len(got), damaged, len(expected), lost)
		}
		for j := range got {
			if got[j].Body != expected[j].Body || got[j].Envelope.ID != expected[j].Envelope.ID {
				t.Fatalf("byte %d flipped: record %d is another", i, j)
			}
		}
	}
}

// TestBytesLostOrAdded shifts what follows: the next record is found.
func TestBytesLostOrAdded(t *testing.T) {
	t.Parallel()
	name, content, want := smallSegment(t, 4)
	dir := t.TempDir()
	rng := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		victim := want[1].Ref
		at := victim.Offset + rng.Int64N(victim.Length)
		n := min(1+rng.Int64N(200), victim.Offset+victim.Length-at)
		broken := append(bytes.Clone(content[:at]), content[at+n:]...)
		if rng.IntN(2) == 0 {
			junk := make([]byte, n)
			for i := range junk {
				junk[i] = byte(rng.Uint32())
			}
			broken = append(append(bytes.Clone(content[:at]), junk...), content[at:]...)
		}
		place(t, dir, name, broken)
		got, damaged := readSegment(t, dir, name)
		// Bytes put right before a header harm no record.
		if len(got) < 3 || damaged == 0 || got[0].Body != want[0].Body || got[len(got)-1].Body != want[3].Body || got[len(got)-2].Body != want[2].Body {
			t.Fatalf("%d bytes changed at %d: %d records, %d damaged bytes", n, at, len(got), damaged)
		}
	}
}

// TestNoForgedRecords damages a record whose message carries, uncompressed, a
// whole record of another segment: it must not come to light.
func TestNoForgedRecords(t *testing.T) {
	t.Parallel()
	_, forged, _ := smallSegment(t, 1)
	noise := make([]byte, 200<<10) // beyond the first block, which holds the tar header
	rng := rand.NewChaCha8([32]byte{1})
	rng.Read(noise) //nolint:errcheck // never fails
	body := append(append(bytes.Clone(noise), forged...), noise[:50<<10]...)
	dir := t.TempDir()
	w := openTest(t, dir, Options{})
	victim := appendTest(t, w, testEnvelope(1), body)
	next := testEnvelope(2)
	appendTest(t, w, next, []byte("next"))
	w.Close()
	path := sealedPath(dir, victim.Segment)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(content, forged[:64]) {
		t.Fatal("the message was compressed: this test proves nothing")
	}
	content[victim.Offset+headerSize+10] ^= 0xff
	place(t, dir, victim.Segment, content)
	got, damaged := readSegment(t, dir, victim.Segment)
	if len(got) != 1 || got[0].Envelope.ID != next.ID || damaged != victim.Length {
		t.Errorf("%d records, %d damaged bytes: want the second record alone", len(got), damaged)
	}
}

func TestReadRecordRefuses(t *testing.T) {
	t.Parallel()
	name, content, want := smallSegment(t, 2)
	dir := t.TempDir()
	place(t, dir, name, content)
	good := want[1].Ref
	for _, ref := range []Ref{
		{name, good.Offset + 1, good.Length}, {name, good.Offset, good.Length - 1}, {name, good.Offset, good.Length + 1},
		{name, -1, good.Length}, {name, good.Offset, -1}, {name, good.Offset, 1 << 62}, {name, 1 << 62, 1 << 62}, {name, 0, good.Offset + good.Length},
	} {
		if rec, err := ReadRecord(dir, ref); !errors.Is(err, ErrDamaged) {
			t.Errorf("%+v: %v, %v", ref, rec, err)
		}
	}
	for _, bad := range []string{"", ".", "../" + name, "open/" + name, name + "/", name[:len(name)-1], "/etc/passwd"} {
		if _, err := OpenSegment(dir, bad); !errors.Is(err, ErrName) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	gone := "2" + name[1:len(name)-9] + "0" + name[len(name)-8:]
	if gone != name {
		if _, err := OpenSegment(dir, gone); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v", gone, err)
		}
	}
}

func FuzzReader(f *testing.F) {
	name, content, _ := smallSegment(f, 2)
	f.Add(content, 0)
	f.Add(content[:len(content)-5], 70)
	f.Add(bytes.Repeat(content[:headerSize], 50), 3)
	n, err := parseName(name)
	if err != nil {
		f.Fatal(err)
	}
	// A header whose checksum is right, over any payload.
	h := header{nonce: n, payload: 40, plain: 1 << 29, crc: 1, id: uuid.New()}
	f.Add(append(h.marshal(), content...), 0)
	f.Fuzz(func(t *testing.T, b []byte, payload int) {
		// Foreign bytes are tried both as a segment and as the payload of a
		// record that verifies.
		framed, _ := sealPayload(n, b)
		for _, segment := range [][]byte{b, framed, append(framed, content...)} {
			dir := t.TempDir()
			place(t, dir, name, segment)
			r, err := OpenSegment(dir, name)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.SeekTo(int64(max(0, payload))); err != nil {
				t.Fatal(err)
			}
			for last := int64(-1); ; {
				rec, err := r.Next()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if r.Offset() <= last {
					t.Fatal("the reader does not move on")
				}
				last = r.Offset()
				io.Copy(io.Discard, rec.Body) //nolint:errcheck // may end early: foreign bytes
			}
			r.Close()
		}
	})
}

// sealPayload makes a record around any bytes.
func sealPayload(n nonce, payload []byte) ([]byte, header) {
	h := header{nonce: n, payload: int64(len(payload)), plain: 1 << 20, crc: crcOf(payload)}
	return append(h.marshal(), payload...), h
}
