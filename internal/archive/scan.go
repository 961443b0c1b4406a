package archive

import (
	"bytes"
	"errors"
	"hash/crc32"
	"io"
	"syscall"
)

// scanBuffer is what the scanner holds, whatever lengths a header claims.
const scanBuffer = 128 << 10

const sector = 4096 // bytes that an unreadable place on a disk takes with it

// scanner finds records by their headers and verifies their payloads. It
// allocates nothing by lengths it reads.
type scanner struct {
	src   io.ReaderAt
	nonce nonce
	buf   []byte
	newer uint16 // the highest format version seen that this program does not know
}

// next returns the first good record at or behind pos that ends at or before
// limit. io.EOF means that there is none; another error is of reading.
func (s *scanner) next(pos, limit int64) (start int64, h header, err error) {
	if s.buf == nil {
		s.buf = make([]byte, scanBuffer)
	}
	for limit-pos >= headerSize {
		h, ok, err := s.at(pos, limit)
		if err != nil || ok {
			return pos, h, err
		}
		// The length of a damaged record is not to be trusted: look for the
		// next header from the byte behind this one's first.
		if pos, err = s.find(pos+1, limit); err != nil {
			return 0, header{}, err
		}
	}
	return 0, header{}, io.EOF
}

// at verifies the record at pos.
func (s *scanner) at(pos, limit int64) (header, bool, error) {
	if limit-pos < headerSize {
		return header{}, false, nil
	}
	b := s.buf[:headerSize]
	if err := s.read(b, pos); err != nil {
		return header{}, false, unlessBadSector(err)
	}
	h, ok := parseHeader(b, s.nonce)
	if !ok || h.payload > limit-pos-headerSize {
		s.newer = max(s.newer, newerVersion(b, s.nonce))
		return h, false, nil
	}
	sum, left, from := uint32(0), h.payload, pos+headerSize
	if h.encrypted {
		b := s.buf[:wrapSize]
		if err := s.read(b, from); err != nil {
			return h, false, unlessBadSector(err)
		}
		if !bytes.Equal(b, h.wrap()) {
			return h, false, nil
		}
		left, from = left-wrapSize, from+wrapSize
	}
	for left > 0 {
		b := s.buf[:min(left, scanBuffer)]
		if err := s.read(b, from); err != nil {
			return h, false, unlessBadSector(err)
		}
		sum = crc32.Update(sum, castagnoli, b)
		left, from = left-int64(len(b)), from+int64(len(b))
	}
	return h, sum == h.crc, nil
}

// find returns where the next header's first bytes are at or behind pos.
func (s *scanner) find(pos, limit int64) (int64, error) {
	for limit-pos >= headerSize {
		b := s.buf[:min(limit-pos, scanBuffer)]
		if err := s.read(b, pos); err != nil {
			// Step over the sector, reading less and less before it.
			if err = unlessBadSector(err); err != nil {
				return 0, err
			}
			if b = s.buf[:min(limit-pos, sector-pos%sector)]; s.read(b, pos) != nil {
				pos += int64(len(b))
				continue
			}
		}
		if i := indexPrefix(b, s.nonce); i >= 0 {
			return pos + int64(i), nil
		}
		pos += max(1, int64(len(b)-prefixSize+1))
	}
	return 0, io.EOF
}

// unlessBadSector takes an unreadable sector for damage like any other.
func unlessBadSector(err error) error {
	if errors.Is(err, syscall.EIO) {
		return nil
	}
	return err
}

// read fills b. A file that became shorter reads as damage, not as its end.
func (s *scanner) read(b []byte, pos int64) error {
	_, err := s.src.ReadAt(b, pos)
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
