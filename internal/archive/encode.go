package archive

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"filippo.io/age"
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
func (c *compressor) encode(ctx context.Context, e *Envelope, message *Spool, dir string) (_ payload, h header, err error) {
	if message.err != nil {
		return nil, h, message.err
	}
	small := heads.Get().(*[]byte)
	kept := false // by the payload
	defer func() {
		if !kept {
			heads.Put(small)
		}
	}()
	if *small, err = entryHead((*small)[:storedHead], e, message.Size()); err != nil {
		return nil, h, err
	}
	head, padding := (*small)[storedHead:], zeros[:-message.Size()&(tarBlock-1)]
	h = header{plain: int64(len(head)) + message.Size() + int64(len(padding)), id: e.ID, encrypted: len(c.recipients) > 0}
	if h.plain > maxRecord {
		return nil, h, fmt.Errorf("record of %d bytes: %w", h.plain, ErrTooLarge)
	}
	if h.encrypted || len(head) > maxBlock || c.rate.AllowN(time.Now(), int(min(h.plain, compressBurst))) {
		p, err := c.pack(ctx, message.readerWith(head, padding), h.plain, dir)
		if err != nil {
			return nil, h, err
		}
		h.payload, h.crc = p.size+h.wrapped(), p.crc
		return p, h, nil
	}
	p, err := newStored(small, message, h.plain)
	if err != nil {
		return nil, h, err
	}
	kept, h.payload, h.crc = true, p.size, p.crc
	return p, h, nil
}

// pack compresses n bytes of in, and encrypts them if there is somebody to do
// it for.
func (c *compressor) pack(ctx context.Context, in io.Reader, n int64, dir string) (*packed, error) {
	p, err := c.begin(ctx, n, dir)
	if err != nil {
		return nil, fmt.Errorf("wait for memory: %w", context.Cause(ctx))
	}
	if len(c.recipients) > 0 {
		err = encrypt(p, c.recipients, func(w io.Writer) error { return c.compress(ctx, w, in, n) })
	} else {
		err = c.compress(ctx, p, in, n)
	}
	if err == nil && p.size > maxRecord-wrapSize {
		err = fmt.Errorf("record of %d bytes: %w", p.size, ErrTooLarge)
	}
	if err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// begin waits for memory.
func (c *compressor) begin(ctx context.Context, plain int64, dir string) (*packed, error) {
	share := min(plain+2*chunkSize, payloadShare)
	if err := c.memory.Acquire(ctx, share); err != nil {
		return nil, err
	}
	return &packed{allowed: share, dir: dir, close: func() { c.memory.Release(share) }}, nil
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
