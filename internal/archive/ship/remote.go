package ship

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

const (
	blockBytes = 1 << 20
	blocksKept = 16 // behind the stream: a record is read twice, to verify and to decode
	skipBlocks = 4  // read over sooner than asked for anew
	readTries  = 3  // of a block: the connection may break
)

// remote reads a segment's object in memory of 16 MiB, as one stream for as
// long as it is read forward. It is an archive.Source. (It keeps its context,
// which io.ReaderAt cannot take.)
type remote struct {
	ctx     context.Context
	bucket  *Bucket
	segment string
	size    int64

	stream io.ReadCloser    // nil: none is open
	next   int64            // block that the stream comes to
	blocks map[int64][]byte // by number; full ones, but for the last
}

// openRemote finds out the object's size.
func openRemote(ctx context.Context, b *Bucket, segment string) (*remote, error) {
	size, err := b.Size(ctx, segment)
	if err != nil {
		return nil, err
	}
	return &remote{ctx: ctx, bucket: b, segment: segment, size: size, blocks: map[int64][]byte{}}, nil
}

// ReadAt implements io.ReaderAt, for one goroutine at a time. Its error is a
// StoreError, but for what says something about the segment.
func (r *remote) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read %s at %d: %w", r.segment, off, fs.ErrInvalid)
	}
	n := 0
	for n < len(p) && off+int64(n) < r.size {
		at := off + int64(n)
		block, err := r.block(at / blockBytes)
		if err != nil {
			return n, storeError(err)
		}
		n += copy(p[n:], block[at%blockBytes:])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// block returns a block, from memory or from the stream.
func (r *remote) block(i int64) ([]byte, error) {
	if b, ok := r.blocks[i]; ok {
		return b, nil
	}
	var err error
	for range readTries {
		if err = r.fetch(i); err == nil {
			return r.blocks[i], nil
		}
		r.closeStream()
		if r.ctx.Err() != nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrRefused) {
			break
		}
	}
	return nil, err
}

// fetch reads on to block i, from where the stream is when that is near.
func (r *remote) fetch(i int64) error {
	if r.stream != nil && (i < r.next || i > r.next+skipBlocks) {
		r.closeStream()
	}
	if r.stream == nil {
		s, err := r.bucket.read(r.ctx, r.segment, i*blockBytes, -1, r.size)
		if err != nil {
			return err
		}
		r.stream, r.next = s, i
	}
	for r.next <= i {
		b := r.room()
		b = b[:min(blockBytes, r.size-r.next*blockBytes)]
		if _, err := io.ReadFull(r.stream, b); err != nil {
			return r.bucket.wrap(r.ctx, "read", r.segment, err)
		}
		r.blocks[r.next] = b
		r.next++
	}
	return nil
}

// room gives memory for one more block: that of the one farthest behind, when
// there are enough.
func (r *remote) room() []byte {
	if len(r.blocks) < blocksKept {
		return make([]byte, blockBytes)
	}
	// What is ahead after a step back is as good to lose as what is behind.
	oldest, far := int64(-1), int64(-1)
	for i := range r.blocks {
		if d := max(r.next-i, i-r.next); d > far {
			oldest, far = i, d
		}
	}
	b := r.blocks[oldest]
	delete(r.blocks, oldest)
	return b[:blockBytes]
}

func (r *remote) closeStream() {
	if r.stream != nil {
		r.stream.Close() //nolint:errcheck // only read
		r.stream = nil
	}
}

// Close frees the connection.
func (r *remote) Close() error {
	r.closeStream()
	r.blocks = nil
	return nil
}
