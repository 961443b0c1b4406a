package archive

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/uuid"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/time/rate"
)

// encryptedRecords are one for testdata/identity.txt, what is between, and one
// for an identity that nobody has.
func encryptedRecords(t *testing.T, n nonce, between []byte) (out []byte) {
	t.Helper()
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for i, to := range []age.Recipient{testRecipient(t), other.Recipient()} {
		c, err := newCompressor(1, rate.Inf, to)
		if err != nil {
			t.Fatal(err)
		}
		e := &Envelope{ID: uuid.MustParse(fmt.Sprintf("019cbd1e-0000-7000-8000-%012d", i+6)), Received: time.Date(2026, 3, 1, 12, 2, i, 0, time.UTC), Direction: Inbound,
			Sender: "a@example.org", Recipients: []string{"ana@example.test"}, Mailboxes: []string{"ana@example.test"}, Route: []string{RoutePortal}}
		p, h, err := c.encode(t.Context(), e, spoolOf(t, []byte("Subject: six\r\n\r\nnobody else reads this\r\n")), t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		h.nonce = n
		out = append(append(out, h.marshal()...), bytesOf(t, p)...)
		if i == 0 {
			out = append(out, between...)
		}
	}
	return out
}

// newerRecord makes a record one of a later format version.
func newerRecord(content []byte, ref Ref) []byte {
	b := bytes.Clone(content)
	binary.LittleEndian.PutUint16(b[ref.Offset+14:], formatVersion+1)
	binary.LittleEndian.PutUint32(b[ref.Offset+60:], crc32.Checksum(b[ref.Offset:ref.Offset+60], castagnoli))
	return b
}

// twoFrames is a record whose tar entry is cut into two frames.
func twoFrames(t *testing.T, n nonce) []byte {
	t.Helper()
	e := &Envelope{ID: uuid.MustParse("019cbd1e-0000-7000-8000-000000000005"), Received: time.Date(2026, 3, 1, 12, 1, 0, 0, time.UTC), Direction: Inbound,
		Recipients: []string{"ana@example.test"}, Mailboxes: []string{"ana@example.test"}}
	var plain bytes.Buffer
	const body = "Subject: five\r\n\r\nin two frames\r\n"
	head, err := entryHead(nil, e, int64(len(body)))
	if err != nil {
		t.Fatal(err)
	}
	plain.Write(append(append(head, body...), zeros[len(body):]...))
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	payload := enc.EncodeAll(plain.Bytes()[700:], enc.EncodeAll(plain.Bytes()[:700], nil))
	h := header{nonce: n, payload: int64(len(payload)), plain: int64(plain.Len()), crc: crcOf(payload), id: e.ID}
	return append(h.marshal(), payload...)
}

func foreignRecord(t *testing.T) []byte {
	_, content, _ := smallSegment(t, 1)
	return content
}
