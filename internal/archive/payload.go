package archive

import (
	"hash/crc32"
	"sync"
)

const chunkSize = 64 << 10 // of memory for payloads, in bytes

var chunks = sync.Pool{New: func() any { return new([chunkSize]byte) }}

// payload is what a record has behind its header, until it is written: in
// memory, and what exceeds its allowance there in a file.
type payload struct {
	size   int64
	crc    uint32
	stored bool // it is not compressed
	memory [][]byte
	rest   *Spool // nil while all is in memory

	pooled  []*[chunkSize]byte // what memory is made of
	allowed int64              // bytes of memory that may still be taken
	dir     string             // for rest
	close   func()
}

// Write appends b.
func (p *payload) Write(b []byte) (int, error) {
	if p.size == 0 && len(b) <= chunkSize/2 { // most mail: what it needs and no more
		p.allowed -= int64(len(b))
		return len(b), p.append(append([]byte(nil), b...), false)
	}
	p.count(b)
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
func (p *payload) chunk() []byte {
	if p.rest != nil || p.allowed < chunkSize {
		return nil
	}
	p.allowed -= chunkSize
	c := chunks.Get().(*[chunkSize]byte)
	p.pooled = append(p.pooled, c)
	return c[:]
}

// append appends b: memory of its own, or what its owner will use again.
func (p *payload) append(b []byte, again bool) error {
	p.count(b)
	if again {
		return p.spill(b)
	}
	p.memory = append(p.memory, b)
	return nil
}

func (p *payload) count(b []byte) {
	p.crc = crc32.Update(p.crc, castagnoli, b)
	p.size += int64(len(b))
}

// spill puts b, and so all that follows, into the file.
func (p *payload) spill(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if p.rest == nil {
		p.rest = NewSpool(p.dir, maxRecord)
	}
	_, err := p.rest.Write(b)
	return err
}

// Close frees the payload.
func (p *payload) Close() error {
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
