package archive

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"

	"github.com/google/uuid"
)

// Layout of a record's header; see docs/archive-format.md.
const (
	headerSize    = 64
	skippable     = 0x184D2A55 // RFC 8878 section 3.1.2 allows 0x184D2A50 to 0x184D2A5F
	signature     = "UNDSTD"
	formatVersion = 2 // the highest that is known

	versionPlain     = 1 // the payload is zstd frames
	versionEncrypted = 2 // the payload is a skippable frame with an age file of zstd frames

	wrapSize  = 8          // bytes of an encrypted payload before the age file: magic and size of its frame
	wrapMagic = 0x184D2A56 // another one than the header's: it is no place to look for a record

	// maxRecord bounds both lengths in a header: more is taken for damage.
	maxRecord = 1 << 30
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// nonce ties a record to its segment. It is random and never leaves the
// archive, so no message can carry bytes that pass for a record.
type nonce [8]byte

// header is the decoded form of the skippable frame that begins a record.
type header struct {
	nonce   nonce
	payload int64  // bytes of the record behind the header
	plain   int64  // bytes of the tar entry
	crc     uint32 // CRC-32C of the payload, of an encrypted one without its first wrapSize bytes
	id      uuid.UUID

	encrypted bool
}

// wrapped is how many bytes of the payload are no content.
func (h *header) wrapped() int64 {
	if h.encrypted {
		return wrapSize
	}
	return 0
}

// wrap makes the first wrapSize bytes of an encrypted payload: they make the
// age file a skippable frame for who only knows zstd.
func (h *header) wrap() []byte {
	b := binary.LittleEndian.AppendUint32(nil, wrapMagic)
	return binary.LittleEndian.AppendUint32(b, uint32(h.payload-wrapSize))
}

// marshal makes the header, and of an encrypted record what wraps its payload.
func (h *header) marshal() []byte { return h.append(nil) }

// append is marshal behind what is in out.
func (h *header) append(out []byte) []byte {
	out = append(out, make([]byte, headerSize)...)
	b := out[len(out)-headerSize:]
	version := uint16(versionPlain)
	if h.encrypted {
		version = versionEncrypted
	}
	binary.LittleEndian.PutUint32(b[0:], skippable)
	binary.LittleEndian.PutUint32(b[4:], headerSize-8)
	copy(b[8:14], signature)
	binary.LittleEndian.PutUint16(b[14:], version)
	copy(b[16:24], h.nonce[:])
	binary.LittleEndian.PutUint64(b[24:], uint64(h.payload))
	binary.LittleEndian.PutUint64(b[32:], uint64(h.plain))
	binary.LittleEndian.PutUint32(b[40:], h.crc)
	copy(b[44:60], h.id[:])
	binary.LittleEndian.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
	if h.encrypted {
		out = append(out, h.wrap()...)
	}
	return out
}

// prefixSize is the length of what every header of a segment begins with.
const prefixSize = 24

// fixed is what every header of every format version begins with.
var fixed = (&header{}).marshal()[:14]

// isPrefix reports whether b begins like a header of the segment with nonce
// n, of any format version.
func isPrefix(b []byte, n nonce) bool {
	return len(b) >= prefixSize && string(b[:len(fixed)]) == string(fixed) && string(b[16:prefixSize]) == string(n[:])
}

// indexPrefix finds the first such place in b, -1 when there is none.
func indexPrefix(b []byte, n nonce) int {
	for at := 0; ; at++ {
		i := bytes.Index(b[at:], fixed)
		if i < 0 {
			return -1
		}
		if at += i; isPrefix(b[at:], n) {
			return at
		}
	}
}

// sealed reports whether the checksum of a header, which must be headerSize
// long, is right.
func sealed(b []byte) bool {
	return binary.LittleEndian.Uint32(b[60:]) == crc32.Checksum(b[:60], castagnoli)
}

// newerVersion returns the format version of a header that only a later
// program than this can read, else 0.
func newerVersion(b []byte, n nonce) uint16 {
	if v := binary.LittleEndian.Uint16(b[14:]); v > formatVersion && isPrefix(b, n) && sealed(b) {
		return v
	}
	return 0
}

// parseHeader decodes b, which must be headerSize long. It reports false for
// anything that is not a header of the segment with nonce n, or whose lengths
// are out of bounds.
func parseHeader(b []byte, n nonce) (header, bool) {
	var h header
	version := binary.LittleEndian.Uint16(b[14:])
	if !sealed(b) || !isPrefix(b, n) || version != versionPlain && version != versionEncrypted {
		return h, false
	}
	payload, plain := binary.LittleEndian.Uint64(b[24:]), binary.LittleEndian.Uint64(b[32:])
	if payload == 0 || payload > maxRecord || plain == 0 || plain > maxRecord {
		return h, false
	}
	h = header{nonce: n, payload: int64(payload), plain: int64(plain), crc: binary.LittleEndian.Uint32(b[40:]),
		encrypted: version == versionEncrypted}
	copy(h.id[:], b[44:60])
	return h, h.payload > h.wrapped()
}
