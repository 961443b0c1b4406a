package archive

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/google/uuid"
)

// TestNextHeaderAtAnyPlace: behind damage the next header is found wherever it
// lies in what the scanner holds at once, also across its bounds.
func TestNextHeaderAtAnyPlace(t *testing.T) {
	t.Parallel()
	name, content, _ := smallSegment(t, 1)
	dir := t.TempDir()
	for _, bound := range []int{scanBuffer, 2 * scanBuffer} {
		for from := -2 * headerSize; from < 8; from++ {
			place(t, dir, name, append(randomBytes(1, bound+from), content...))
			if got, damaged := readSegment(t, dir, name); len(got) != 1 || damaged != int64(bound+from) {
				t.Fatalf("%d bytes of damage before a record: %d records, %d bytes damaged", bound+from, len(got), damaged)
			}
		}
	}
}

// TestNoRecordButItsChecksum: a header that is right for a payload that is no
// record, or another's, is damage, and hides nothing behind it.
func TestNoRecordButItsChecksum(t *testing.T) {
	t.Parallel()
	name, content, want := smallSegment(t, 2)
	n, err := parseName(name)
	if err != nil {
		t.Fatal(err)
	}
	first, second := content[:want[0].Ref.Length], content[want[1].Ref.Offset:]
	other := bytes.Clone(first)
	id := uuid.New()
	copy(other[44:60], id[:])
	binary.LittleEndian.PutUint32(other[60:], crcOf(other[:60]))
	withPlain := func(length uint64) []byte {
		b := bytes.Clone(first)
		binary.LittleEndian.PutUint64(b[32:], length)
		binary.LittleEndian.PutUint32(b[60:], crcOf(b[:60]))
		return b
	}
	around, _ := sealPayload(n, append([]byte("no zstd"), first...))
	for about, c := range map[string]struct {
		before  []byte
		records int
		damaged int
	}{
		"another's id":             {other, 1, len(other)},
		"nothing":                  {withPlain(0), 1, len(first)},
		"more than 2^30 bytes":     {withPlain(1<<30 + 1), 1, len(first)},
		"a record within no frame": {around, 2, len(around) - len(first)},
	} {
		dir := t.TempDir()
		place(t, dir, name, append(bytes.Clone(c.before), second...))
		got, damaged := readSegment(t, dir, name)
		if len(got) != c.records || damaged != int64(c.damaged) || got[len(got)-1].Envelope.ID != want[1].Envelope.ID {
			t.Errorf("%s: %d records, %d bytes damaged, want %d and %d", about, len(got), damaged, c.records, c.damaged)
		}
	}
}
