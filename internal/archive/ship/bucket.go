package ship

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gocloud.dev/blob"

	"understudy/internal/archive"
)

const (
	dirMode     = 0o750
	contentType = "application/zstd"

	// What a store must manage before an operation is given up.
	answerTime  = 30 * time.Second
	slowest     = 256 << 10       // bytes/s
	abandonTime = 5 * time.Second // to drop what a failed upload left; the worker may be about to end

	partBytes   = 8 << 20 // of an upload: S3 wants at least 5 MiB
	partsAtOnce = 3       // held in memory

	listPage = 1000 // segments of one answer: S3 gives no more
)

// deadline bounds an operation on n bytes.
func deadline(ctx context.Context, n int64) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, answerTime+time.Duration(n/slowest)*time.Second)
}

// Sum is what tells whether two segments are the same.
type Sum struct {
	Size   int64 // bytes
	SHA256 [sha256.Size]byte
}

// SumOf reads r to its end.
func SumOf(r io.Reader) (Sum, error) {
	h := sha256.New()
	n, err := io.CopyBuffer(h, struct{ io.Reader }{r}, make([]byte, 256<<10))
	s := Sum{Size: n}
	h.Sum(s.SHA256[:0])
	return s, err
}

// Put stores a segment of size bytes, whole or not at all: S3 shows an object
// when its upload is complete, a directory gets the file by rename(2). An
// object of the same name is replaced.
func (b *Bucket) Put(ctx context.Context, segment string, from io.Reader, size int64) error {
	ctx, cancel := deadline(ctx, size)
	defer cancel() // before Close: gives the upload up
	k, err := key(segment)
	if err != nil {
		return err
	}
	opened, err := b.open(ctx)
	if err != nil {
		return err
	}
	if err := b.clear(k); err != nil {
		return fmt.Errorf("upload %s: %w", segment, err)
	}
	b.abortUploads(ctx, opened, k)
	w, err := opened.NewWriter(ctx, k, &blob.WriterOptions{ContentType: contentType, BufferSize: partBytes, MaxConcurrency: partsAtOnce})
	if err != nil {
		return b.wrap(ctx, "upload", segment, err)
	}
	n, err := io.CopyBuffer(w, struct{ io.Reader }{from}, make([]byte, 256<<10))
	if err == nil && n != size {
		err = fmt.Errorf("%w: %d bytes, not %d", io.ErrUnexpectedEOF, n, size)
	}
	if err != nil {
		cancel()
		w.Close() //nolint:errcheck // given up
		b.abandon(ctx, opened, k)
		return b.wrap(context.WithoutCancel(ctx), "upload", segment, err)
	}
	if err := w.Close(); err != nil {
		b.abandon(ctx, opened, k)
		return b.wrap(ctx, "upload", segment, err)
	}
	if err := b.sync(k); err != nil {
		return fmt.Errorf("upload %s: %w", segment, err)
	}
	return nil
}

// abandon drops the parts of an upload that failed, also when ctx has ended.
func (b *Bucket) abandon(ctx context.Context, opened *blob.Bucket, k string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abandonTime)
	defer cancel()
	b.abortUploads(ctx, opened, k)
}

// clear removes what a killed upload into a directory left behind.
func (b *Bucket) clear(k string) error {
	dir := b.directory()
	if dir == "" {
		return nil
	}
	left, err := filepath.Glob(filepath.Join(dir, k) + ".*.tmp")
	if err != nil {
		return err
	}
	for _, f := range left {
		if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// sync makes an object in a directory durable: the driver does not.
func (b *Bucket) sync(k string) error {
	dir := b.directory()
	if dir == "" {
		return nil
	}
	for _, p := range []string{filepath.Join(dir, k), filepath.Join(dir, path.Dir(k)), dir} {
		f, err := os.Open(p)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// Sum reads a segment's object from its begin to its end.
func (b *Bucket) Sum(ctx context.Context, segment string, size int64) (Sum, error) {
	r, err := b.read(ctx, segment, 0, -1, size)
	if err != nil {
		return Sum{}, err
	}
	defer r.Close()
	s, err := SumOf(r)
	return s, b.wrap(ctx, "read back", segment, err)
}

// Size is that of a segment's object, in bytes.
func (b *Bucket) Size(ctx context.Context, segment string) (int64, error) {
	ctx, cancel := deadline(ctx, 0)
	defer cancel()
	k, err := key(segment)
	if err != nil {
		return 0, err
	}
	opened, err := b.open(ctx)
	if err != nil {
		return 0, err
	}
	a, err := opened.Attributes(ctx, k)
	if err != nil {
		return 0, b.wrap(ctx, "look for", segment, err)
	}
	return a.Size, nil
}

// Delete removes a segment's object. One that is not there is no error.
func (b *Bucket) Delete(ctx context.Context, segment string) error {
	ctx, cancel := deadline(ctx, 0)
	defer cancel()
	k, err := key(segment)
	if err != nil {
		return err
	}
	opened, err := b.open(ctx)
	if err != nil {
		return err
	}
	err = b.wrap(ctx, "delete", segment, opened.Delete(ctx, k))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := b.clear(k); err != nil {
		return fmt.Errorf("delete %s: %w", segment, err)
	}
	return nil
}

// Segments lists the bucket by name, and so by time. What is no segment is
// left out.
func (b *Bucket) Segments(ctx context.Context) ([]archive.Segment, error) {
	opened, err := b.open(ctx)
	if err != nil {
		return nil, err
	}
	var out []archive.Segment
	token := blob.FirstPageToken
	for len(token) > 0 {
		page, next, err := b.page(ctx, opened, token)
		if err != nil {
			return nil, err
		}
		for _, o := range page {
			name := path.Base(o.Key)
			if k, err := key(name); err == nil && k == o.Key && !o.IsDir {
				out = append(out, archive.Segment{Name: name, Size: o.Size})
			}
		}
		token = next
	}
	slices.SortFunc(out, func(a, b archive.Segment) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func (b *Bucket) page(ctx context.Context, opened *blob.Bucket, token []byte) ([]*blob.ListObject, []byte, error) {
	ctx, cancel := deadline(ctx, 0)
	defer cancel()
	page, next, err := opened.ListPage(ctx, token, listPage, nil)
	return page, next, b.wrap(ctx, "list", "segments", err)
}

// read opens length bytes of an object from offset on, to its end when length
// is negative. expect is for the deadline, which holds until Close.
func (b *Bucket) read(ctx context.Context, segment string, offset, length, expect int64) (io.ReadCloser, error) {
	ctx, cancel := deadline(ctx, expect)
	k, err := key(segment)
	if err != nil {
		cancel()
		return nil, err
	}
	opened, err := b.open(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	r, err := opened.NewRangeReader(ctx, k, offset, length, nil)
	if err != nil {
		err = b.wrap(ctx, "read", segment, err)
		cancel()
		return nil, err
	}
	return &stream{Reader: r, cancel: cancel}, nil
}

// stream ends its deadline with itself.
type stream struct {
	*blob.Reader
	cancel context.CancelFunc
}

func (s *stream) Close() error {
	defer s.cancel()
	return s.Reader.Close()
}
