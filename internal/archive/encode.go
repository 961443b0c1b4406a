package archive

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"time"

	"filippo.io/age"
	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
)

const (
	// frameSize is how much of an entry goes into one zstd frame, in bytes, so
	// that the parts of a large message are compressed at once on all cores.
	frameSize = 256 << 10

	// compressRate is how many bytes of mail are compressed in a second, unless
	// Options say otherwise, and compressBurst how many at once; a larger message
	// counts as that much. What comes faster is kept as it is: how much disk an
	// archive takes is decided by the mail of all its days, how long a client waits
	// by the busiest second.
	compressRate  = 8 << 20 // 700 GB a day, a fiftieth of a core
	compressBurst = 8 << 20

	payloadMemory = 32 << 20 // of all payloads that wait, in bytes
	payloadShare  = 16 << 20 // of one; the rest of it waits in a file
)

// compressor makes the payloads of records. It is safe for use by many
// goroutines.
type compressor struct {
	cores  chan struct{} // who put something in may use a core
	zstd   *zstd.Encoder
	memory *semaphore.Weighted
	rate   *rate.Limiter // of bytes to compress
	frames sync.Pool     // of *frame

	recipients []age.Recipient // of every record; none: it is not encrypted
}

// frame is what one piece of an entry needs.
type frame struct {
	plain  [frameSize]byte
	n      int
	packed []byte
}

// heads keep what comes before messages.
var heads = sync.Pool{New: func() any { b := make([]byte, 0, 5*tarBlock); return &b }}

func newCompressor(cores int, limit rate.Limit, recipients ...age.Recipient) (*compressor, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(cores), zstd.WithWindowSize(frameSize),
		zstd.WithEncoderLevel(zstd.SpeedFastest), // mail gains 1 % from more, at 2 to 4 times the work
		zstd.WithAllLitEntropyCompression(true))  // base64 has no repetitions, yet a quarter is air
	if err != nil {
		return nil, fmt.Errorf("new compressor: %w", err)
	}
	return &compressor{cores: make(chan struct{}, cores), zstd: enc, memory: semaphore.NewWeighted(payloadMemory), rate: rate.NewLimiter(limit, compressBurst),
		frames: sync.Pool{New: func() any { return new(frame) }}, recipients: recipients}, nil
}

// encode makes the payload of a message's record. It waits for a core no
// longer than ctx lasts.
func (c *compressor) encode(ctx context.Context, e *Envelope, message *Spool, dir string) (_ *payload, _ header, err error) {
	if message.err != nil {
		return nil, header{}, message.err
	}
	head := heads.Get().(*[]byte)
	defer heads.Put(head)
	if *head, err = entryHead((*head)[:0], e, message.Size()); err != nil {
		return nil, header{}, err
	}
	padding := -message.Size() & (tarBlock - 1)
	plain := int64(len(*head)) + message.Size() + padding
	if plain > maxRecord {
		return nil, header{}, fmt.Errorf("record of %d bytes: %w", plain, ErrTooLarge)
	}
	p, err := c.begin(ctx, plain, dir)
	if err != nil {
		return nil, header{}, fmt.Errorf("wait for memory: %w", context.Cause(ctx))
	}
	in := message.readerWith(*head, zeros[:padding])
	switch {
	case len(c.recipients) > 0:
		err = encrypt(p, c.recipients, func(w io.Writer) error { return c.compress(ctx, w, in, plain) })
	case c.rate.AllowN(time.Now(), int(min(plain, compressBurst))):
		err = c.compress(ctx, p, in, plain)
	default:
		p.stored = true
		err = c.store(p, in, plain)
	}
	h := header{payload: p.size, plain: plain, crc: p.crc, id: e.ID, encrypted: len(c.recipients) > 0}
	h.payload += h.wrapped()
	if err == nil && h.payload > maxRecord {
		err = fmt.Errorf("record of %d bytes: %w", h.payload, ErrTooLarge)
	}
	if err != nil {
		p.Close()
		return nil, header{}, err
	}
	return p, h, nil
}

// begin waits for memory.
func (c *compressor) begin(ctx context.Context, plain int64, dir string) (*payload, error) {
	share := min(plain+2*chunkSize, payloadShare)
	if err := c.memory.Acquire(ctx, share); err != nil {
		return nil, err
	}
	return &payload{allowed: share, dir: dir, close: func() { c.memory.Release(share) }}, nil
}

// compress writes n bytes of in as frames, when there is a core for it.
func (c *compressor) compress(ctx context.Context, to io.Writer, in io.Reader, n int64) error {
	select {
	case c.cores <- struct{}{}:
		defer func() { <-c.cores }()
	case <-ctx.Done():
		return fmt.Errorf("wait for a compressor: %w", context.Cause(ctx))
	}
	for n > 0 {
		wave, err := c.wave(in, n)
		for _, f := range wave {
			n -= int64(f.n)
			if err == nil {
				_, err = to.Write(f.packed)
			}
			c.frames.Put(f)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// wave compresses the next frames of n bytes of in: as many at once as cores
// are idle, at least one.
func (c *compressor) wave(in io.Reader, n int64) (frames []*frame, err error) {
	var wg sync.WaitGroup
	defer func() {
		wg.Wait()
		for range len(frames) - 1 { // the first one's core is compress's
			<-c.cores
		}
	}()
	for n > 0 && (len(frames) == 0 || c.more()) {
		f := c.frames.Get().(*frame)
		frames = append(frames, f)
		f.n = int(min(n, frameSize))
		n -= int64(f.n)
		if _, err := io.ReadFull(in, f.plain[:f.n]); err != nil {
			return frames, err
		}
		if len(frames) == 1 && n == 0 { // most mail
			f.pack(c.zstd)
			return frames, nil
		}
		wg.Go(func() { f.pack(c.zstd) })
	}
	return frames, nil
}

func (f *frame) pack(by *zstd.Encoder) { f.packed = by.EncodeAll(f.plain[:f.n], f.packed[:0]) }

// more takes another core if one is idle.
func (c *compressor) more() bool {
	select {
	case c.cores <- struct{}{}:
		return true
	default:
		return false
	}
}

// store writes n bytes of in as one frame of raw blocks (RFC 8878 section
// 3.1.1.2.2), without copying them more than once.
func (c *compressor) store(p *payload, in io.Reader, n int64) error {
	f := c.frames.Get().(*frame)
	defer c.frames.Put(f)
	// Magic; checksum and a content size of 4 bytes follow; window of 256 KiB.
	head := binary.LittleEndian.AppendUint32([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x84, 0x40}, uint32(n))
	sum := xxhash.New()
	for n > 0 {
		b := p.chunk()
		again := b == nil
		if again {
			b = f.plain[:chunkSize]
		}
		at := copy(b, head) + blockHead
		size := int(min(n, int64(len(b)-at-checksumSize)))
		head, n = nil, n-int64(size)
		kind := uint32(size) << 3
		if n == 0 {
			kind |= 1 // the last block
		}
		b[at-3], b[at-2], b[at-1] = byte(kind), byte(kind>>8), byte(kind>>16)
		if _, err := io.ReadFull(in, b[at:at+size]); err != nil {
			return err
		}
		sum.Write(b[at : at+size]) //nolint:errcheck // never fails
		if b = b[:at+size]; n == 0 {
			b = binary.LittleEndian.AppendUint32(b, uint32(sum.Sum64()))
		}
		if err := p.append(b, again); err != nil {
			return err
		}
	}
	return nil
}

const (
	blockHead    = 3 // bytes
	checksumSize = 4
)
