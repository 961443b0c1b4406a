package archive

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"sync"

	"github.com/cespare/xxhash/v2"
)

const (
	frameHead = 10        // bytes: magic, descriptor, window, size
	blockHead = 3         // bytes: size, kind, whether it is the last
	maxBlock  = 128 << 10 // bytes; decoders take no more

	// storedHead is what comes before an entry: the record's header, and the heads
	// of the frame and of its first block.
	storedHead = headerSize + frameHead + blockHead

	headBytes   = 8 << 10         // in a buffer of heads
	copiedEntry = headBytes - 128 // bytes; a larger one is worth a part of its own in the write
)

// heads keep what comes before messages, and small messages.
var heads = sync.Pool{New: func() any { b := make([]byte, 0, headBytes); return &b }}

// stored is the payload of a message that is not compressed: one zstd frame of
// raw blocks (RFC 8878 section 3.1.1.2). The entry's head is the first, each
// piece of the message one, the padding the last. Only a small message is
// copied; the Spool is held until the payload is closed.
type stored struct {
	message *Spool
	pieces  []piece // none when they are in small
	small   *[]byte // the record, without the pieces; of heads
	first   int     // where in it the first piece's block begins
	crc     uint32
	size    int64
}

// newStored makes the payload of an entry of plain bytes whose head is in
// small, behind storedHead bytes that are free.
func newStored(small *[]byte, message *Spool, plain int64) (*stored, error) {
	b, pieces, copied := *small, message.pieces(), plain <= copiedEntry
	s := &stored{message: message, small: small, first: len(b)}
	// Magic; checksum and a content size of 4 bytes follow; a window of 256 KiB.
	frame := append(b[headerSize:headerSize], 0x28, 0xb5, 0x2f, 0xfd, 0x84, 0x40)
	frame = binary.LittleEndian.AppendUint32(frame, uint32(plain))
	appendBlock(frame, s.first-storedHead, false)
	sum := xxhash.New()
	sum.Write(b[storedHead:]) //nolint:errcheck // never fails
	buffer := chunks.Get().(*[chunkSize]byte)
	defer chunks.Put(buffer)
	summed := headerSize // of b
	for _, p := range pieces {
		text, err := message.read(p, buffer)
		if err != nil {
			return nil, err
		}
		b = appendBlock(b, len(text), false)
		sum.Write(text) //nolint:errcheck // never fails
		s.crc = crc32.Update(crc32.Update(s.crc, castagnoli, b[summed:]), castagnoli, text)
		if copied {
			b = append(b, text...)
		}
		summed = len(b)
	}
	padding := zeros[:-message.Size()&(tarBlock-1)]
	sum.Write(padding) //nolint:errcheck // never fails
	b = append(appendBlock(b, len(padding), true), padding...)
	b = binary.LittleEndian.AppendUint32(b, uint32(sum.Sum64()))
	s.crc = crc32.Update(s.crc, castagnoli, b[summed:])
	*small, s.size = b, int64(len(b))-headerSize
	if !copied {
		s.pieces, s.size = pieces, s.size+message.Size()
	}
	if s.size > maxRecord {
		return nil, fmt.Errorf("record of %d bytes: %w", s.size, ErrTooLarge)
	}
	message.hold()
	return s, nil
}

// appendBlock appends the head of a raw block.
func appendBlock(b []byte, size int, last bool) []byte {
	head := uint32(size) << 3
	if last {
		head |= 1
	}
	return append(b, byte(head), byte(head>>8), byte(head>>16))
}

func (s *stored) writeTo(v *gather, head []byte) error {
	small, begin, end := *s.small, 0, s.first
	copy(small, head)
	if len(s.pieces) == 0 {
		return v.add(small)
	}
	buffer := chunks.Get().(*[chunkSize]byte)
	defer chunks.Put(buffer)
	for _, p := range s.pieces {
		text, err := s.message.read(p, buffer)
		if err != nil {
			return err
		}
		end += blockHead
		if err := v.add(small[begin:end], text); err != nil {
			return err
		}
		if begin = end; p.memory == nil {
			if err := v.flush(); err != nil { // the buffer is used again
				return err
			}
		}
	}
	return v.add(small[begin:])
}

// Close lets the message go.
func (s *stored) Close() error {
	if s.small == nil {
		return nil
	}
	heads.Put(s.small)
	s.small = nil
	return s.message.drop()
}
