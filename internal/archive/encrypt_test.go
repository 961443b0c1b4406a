package archive

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"golang.org/x/time/rate"
)

// testKeys are the identities of testdata/identity.txt, which is no secret.
func testKeys(t testing.TB) []age.Identity {
	t.Helper()
	text, err := os.ReadFile("testdata/identity.txt")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "identity.txt")
	if err := os.WriteFile(path, text, 0o600); err != nil { // a checkout's files may be everybody's
		t.Fatal(err)
	}
	keys, err := LoadIdentities(path)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func testRecipient(t testing.TB) age.Recipient {
	t.Helper()
	return testKeys(t)[0].(*age.X25519Identity).Recipient()
}

func strangerKey(t testing.TB) *age.X25519Identity {
	t.Helper()
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// encryptedSegment writes messages of many sizes for the test identity and
// returns the sealed segment's path and its records.
func encryptedSegment(t *testing.T, sizes ...int) (dir string, want []readBack, path string) {
	t.Helper()
	dir = t.TempDir()
	w := openTest(t, dir, Options{Recipients: []age.Recipient{strangerKey(t).Recipient(), testRecipient(t)}})
	for i, n := range sizes {
		e, body := testEnvelope(i), append([]byte("Subject: Geheimnis\r\n\r\n"), randomBytes(uint64(i), n)...)
		want = append(want, readBack{*e, appendTest(t, w, e, body), string(body)})
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, want, sealedPath(dir, want[0].Ref.Segment)
}

func TestEncrypted(t *testing.T) {
	t.Parallel()
	dir, want, path := encryptedSegment(t, 0, 5000, chunkSize, 3*frameSize+17, 2<<20)
	name := want[0].Ref.Segment
	if got, damaged := readSegment(t, dir, name, testKeys(t)...); damaged != 0 || !cmp.Equal(want, got) {
		t.Errorf("%d of %d records, %d damaged bytes", len(got), len(want), damaged)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"Geheimnis", "example", "ana@", "UNDERSTUDY.", ".eml", "192.0.2.7"} {
		if bytes.Contains(content, []byte(word)) {
			t.Errorf("the segment says %q", word)
		}
	}
	for _, keys := range [][]age.Identity{nil, {strangerKey(t)}} {
		checkNoKey(t, dir, want, keys)
	}
	for _, s := range want {
		rec, err := ReadRecord(dir, s.Ref, testKeys(t)...)
		if err != nil {
			t.Fatal(err)
		}
		if err := rec.Check(); err != nil {
			t.Error(err)
		}
		rec.Close()
	}
	// For who only knows zstd and tar there is nothing, and nothing wrong.
	if out := shell(t, `zstd -tq "$0" && zstd -dcq "$0" | wc -c`, path); strings.TrimSpace(out) != "0" {
		t.Errorf("zstd finds %s bytes", out)
	}
}

// checkNoKey: each record is told by name, none counts as damage.
func checkNoKey(t *testing.T, dir string, want []readBack, keys []age.Identity) {
	t.Helper()
	r, err := OpenSegment(dir, want[0].Ref.Segment, keys...)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, s := range want {
		_, err := r.Next()
		var no *EncryptedError
		if !errors.As(err, &no) || no.Ref != s.Ref || no.ID != s.Envelope.ID || no.Wrong != (keys != nil) || errors.Is(err, ErrDamaged) ||
			!strings.Contains(err.Error(), "archive_identity_file") {
			t.Errorf("Next says %v", err)
		}
		if _, err := ReadRecord(dir, s.Ref, keys...); !errors.Is(err, ErrEncrypted) || errors.Is(err, ErrDamaged) {
			t.Errorf("ReadRecord says %v", err)
		}
	}
	if _, err := r.Next(); err != io.EOF || r.Damaged() != 0 {
		t.Errorf("at the end: %v, %d damaged bytes", err, r.Damaged())
	}
}

// TestEncryptedDamage flips bits and cuts: with a key or without, damage is
// damage, costs that record only, and is never taken for a missing key.
func TestEncryptedDamage(t *testing.T) {
	t.Parallel()
	_, want, path := encryptedSegment(t, 30, 40, 50)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	keys, name := testKeys(t), want[0].Ref.Segment
	dir := t.TempDir()
	victim := want[1].Ref
	for at := victim.Offset; at < victim.Offset+victim.Length; at += 3 {
		b := bytes.Clone(good)
		b[at] ^= 0x40
		place(t, dir, name, b)
		got, damaged := readSegment(t, dir, name, keys...)
		if damaged != victim.Length || len(got) != 2 || got[0].Body != want[0].Body || got[1].Body != want[2].Body {
			t.Fatalf("a bit at %d: %d records, %d damaged bytes", at, len(got), damaged)
		}
		if _, err := ReadRecord(dir, victim, keys...); !errors.Is(err, ErrDamaged) || errors.Is(err, ErrEncrypted) {
			t.Fatalf("a bit at %d: ReadRecord says %v", at, err)
		}
		if _, err := ReadRecord(dir, victim); !errors.Is(err, ErrDamaged) {
			t.Fatalf("a bit at %d, without a key: ReadRecord says %v", at, err)
		}
	}
	// Who changes the content and makes the checksums right is found out by age.
	b := bytes.Clone(good)
	end := victim.Offset + victim.Length
	b[end-5] ^= 1
	binary.LittleEndian.PutUint32(b[victim.Offset+40:], crcOf(b[victim.Offset+headerSize+wrapSize:end]))
	binary.LittleEndian.PutUint32(b[victim.Offset+60:], crc32.Checksum(b[victim.Offset:victim.Offset+60], castagnoli))
	place(t, dir, name, b)
	if got, damaged := readSegment(t, dir, name, keys...); len(got) != 2 || damaged != victim.Length {
		t.Errorf("forged: %d records, %d damaged bytes", len(got), damaged)
	}
}

// TestEncryptedRecovery: who has no key cuts and seals what was left open all
// the same, and goes on in the clear or not, as told.
func TestEncryptedRecovery(t *testing.T) {
	t.Parallel()
	_, want, path := encryptedSegment(t, 100, 200, 300)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dir, name := t.TempDir(), want[0].Ref.Segment
	if err := os.MkdirAll(filepath.Join(dir, openDir), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(openPath(dir, name), content[:len(content)-1], 0o640); err != nil {
		t.Fatal(err)
	}
	w := openTest(t, dir, Options{})
	e := testEnvelope(4)
	last := readBack{*e, appendTest(t, w, e, []byte("in the clear")), "in the clear"}
	if got, damaged := readSegment(t, dir, name, testKeys(t)...); len(got) != 2 || damaged != 0 {
		t.Errorf("recovered %d records, %d damaged bytes", len(got), damaged)
	}
	if got, _ := readSegment(t, dir, last.Ref.Segment, testKeys(t)...); !cmp.Equal([]readBack{last}, got) {
		t.Errorf("behind it: %v", got)
	}
}

// TestUnpackScript reads a mixed segment with stock tools alone.
func TestUnpackScript(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/normal/*.zst")
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	content, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	n, err := parseName(filepath.Base(files[0]))
	if err != nil {
		t.Fatal(err)
	}
	c, err := newCompressor(1, rate.Inf, testRecipient(t))
	if err != nil {
		t.Fatal(err)
	}
	e := &Envelope{ID: uuid.Must(uuid.NewV7()), Direction: Inbound}
	p, h, err := c.encode(t.Context(), e, spoolOf(t, []byte("only for who has the key")), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	h.nonce = n
	path := filepath.Join(t.TempDir(), "segment")
	mixed := append(append(h.marshal(), bytesOf(t, p)...), content...)
	if err := os.WriteFile(path, append(mixed, append(h.marshal(), bytesOf(t, p)...)...), 0o600); err != nil {
		t.Fatal(err)
	}
	const script = "../../docs/archive-unpack.sh testdata/identity.txt \"$0\" | tar -xO --warning=no-unknown-keyword"
	if got := shell(t, script+" $1.eml", path, e.ID.String()); got != "only for who has the keyonly for who has the key" {
		t.Errorf("got %q", got)
	}
	list := shell(t, `../../docs/archive-unpack.sh testdata/identity.txt "$0" | tar -t --warning=no-unknown-keyword | wc -l`, path)
	if strings.TrimSpace(list) != "6" {
		t.Errorf("%s entries", list)
	}
}
