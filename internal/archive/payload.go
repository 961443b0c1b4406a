package archive

import (
	"hash/crc32"
	"sync"
)

const chunkSize = 64 << 10 // of memory for payloads, in bytes

var chunks = sync.Pool{New: func() any { return new([chunkSize]byte) }}

// payload is what a record has behind its header, until it is written.
type payload interface {
	// writeTo writes a record: its header, which stays as it is until the parts
	// are written, and the payload.
	writeTo(parts *gather, header []byte) error
	Close() error
}

// packed is a payload that was compressed, and perhaps encrypted: in memory,
// and what exceeds its allowance there in a file.
type packed struct {
	size   int64
	crc    uint32
	memory [][]byte
	rest   *Spool // nil while all is in memory

	pooled  []*[chunkSize]byte // what memory is made of
	allowed int64              // bytes of memory that may still be taken
	dir     string             // for rest
	close   func()
}

// Write appends b.
func (p *packed) Write(b []byte) (int, error) {
	p.crc = crc32.Update(p.crc, castagnoli, b)
	p.size += int64(len(b))
	if p.size == int64(len(b)) && len(b) <= chunkSize/2 { // most mail: what it needs and no more
		p.allowed -= int64(len(b))
		p.memory = append(p.memory, append([]byte(nil), b...))
		return len(b), nil
	}
	left := b
	for len(left) > 0 && p.rest == nil {
		last := len(p.memory) - 1
		if last < 0 || len(p.memory[last]) == cap(p.memory[last]) {
			c := p.chunk()
			if c == nil {
				break
			}
			p.memory = append(p.memory, c[:0])
			continue
		}
		n := min(len(left), cap(p.memory[last])-len(p.memory[last]))
		p.memory[last] = append(p.memory[last], left[:n]...)
		left = left[n:]
	}
	return len(b), p.spill(left)
}

// chunk takes memory of chunkSize bytes, nil when there may be no more.
func (p *packed) chunk() []byte {
	if p.rest != nil || p.allowed < chunkSize {
		return nil
	}
	p.allowed -= chunkSize
	c := chunks.Get().(*[chunkSize]byte)
	p.pooled = append(p.pooled, c)
	return c[:]
}

// spill puts b, and so all that follows, into the file.
func (p *packed) spill(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if p.rest == nil {
		p.rest = NewSpool(p.dir, maxRecord)
	}
	_, err := p.rest.Write(b)
	return err
}

func (p *packed) writeTo(v *gather, header []byte) error {
	if err := v.add(header); err != nil {
		return err
	}
	if err := v.add(p.memory...); err != nil || p.rest == nil {
		return err
	}
	return v.copy(p.rest.reader(), p.rest.Size())
}

// Close frees the payload.
func (p *packed) Close() error {
	for _, c := range p.pooled {
		chunks.Put(c)
	}
	p.memory, p.pooled = nil, nil
	if p.close != nil {
		p.close()
		p.close = nil
	}
	if p.rest == nil {
		return nil
	}
	return p.rest.Close()
}
