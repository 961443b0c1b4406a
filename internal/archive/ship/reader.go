package ship

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"

	"filippo.io/age"

	"understudy/internal/archive"
)

// inMemory is the largest record from a bucket that is held in memory, in
// bytes; a larger one is kept in a file without a name while it is read.
const inMemory = 1 << 20

// Reader reads an archive wherever its segments are: in Dir first, else in
// Bucket. Bucket is nil where nothing is shipped.
type Reader struct {
	Dir        string
	Bucket     *Bucket
	Identities []age.Identity // for encrypted records; without them those are archive.ErrEncrypted
}

// Segment is one segment of the whole archive.
type Segment struct {
	archive.Segment      // its Path is empty when it is only in the bucket
	Shipped         bool // the bucket has it
}

// Segments lists the whole archive, local and shipped, sorted by name and so
// by time. Without the bucket's list there is an error, a StoreError: it would
// not be whole.
func (r Reader) Segments(ctx context.Context) ([]Segment, error) {
	var shipped []archive.Segment
	if r.Bucket != nil {
		var err error
		if shipped, err = r.Bucket.Segments(ctx); err != nil {
			return nil, storeError(err)
		}
	}
	// After the bucket: a segment goes from here to there, never back.
	local, err := archive.Segments(r.Dir)
	if err != nil {
		return nil, err
	}
	all := make(map[string]Segment, len(local)+len(shipped))
	for _, s := range shipped {
		all[s.Name] = Segment{Segment: s, Shipped: true}
	}
	for _, s := range local {
		all[s.Name] = Segment{Segment: s, Shipped: all[s.Name].Shipped}
	}
	out := make([]Segment, 0, len(all))
	for _, s := range all {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Segment) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// OpenSegment opens a segment for reading, as archive.OpenSegment does. One
// that is in the bucket is read as a stream while it is read forward; ctx is
// for all of that.
func (r Reader) OpenSegment(ctx context.Context, name string) (*archive.SegmentReader, error) {
	s, err := archive.OpenSegment(r.Dir, name, r.Identities...)
	if r.Bucket == nil || !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	return r.OpenShipped(ctx, name)
}

// OpenShipped is OpenSegment for the bucket's copy, also of a segment that is
// in Dir. The error is a StoreError when the bucket cannot be asked.
func (r Reader) OpenShipped(ctx context.Context, name string) (*archive.SegmentReader, error) {
	src, err := openRemote(ctx, r.Bucket, name)
	if err != nil {
		return nil, storeError(err)
	}
	return archive.NewSegmentReader(name, src, src.size, r.Identities...)
}

// ReadRecord opens one record; Close it. The error is archive.ErrDamaged when
// it does not verify, fs.ErrNotExist when its segment is gone, a StoreError
// when the bucket cannot be asked. When the local copy is damaged the bucket's
// is used.
func (r Reader) ReadRecord(ctx context.Context, ref archive.Ref) (*archive.Record, error) {
	rec, err := archive.ReadRecord(r.Dir, ref, r.Identities...)
	if r.Bucket == nil || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, archive.ErrDamaged) {
		return rec, err
	}
	there, e := r.Bucket.readRecord(ctx, ref, r.Identities)
	if e == nil {
		return there, nil
	}
	e = storeError(e)
	var unasked *StoreError
	if errors.Is(err, archive.ErrDamaged) && !errors.As(e, &unasked) { // else the copy may be whole
		return nil, errors.Join(err, e)
	}
	return nil, e
}

// readRecord asks for exactly the bytes of the record.
func (b *Bucket) readRecord(ctx context.Context, ref archive.Ref, keys []age.Identity) (*archive.Record, error) {
	if err := ref.Validate(); err != nil {
		return nil, err
	}
	s, err := b.read(ctx, ref.Segment, ref.Offset, ref.Length, ref.Length)
	var unreached *net.OpError
	if errors.As(err, &unreached) { // no need to ask once more
		return nil, err
	}
	if err != nil {
		if size, e := b.Size(ctx, ref.Segment); e == nil && size < ref.Offset+ref.Length {
			return nil, fmt.Errorf("%w: outside of the segment: %w", archive.ErrDamaged, err)
		}
		return nil, err
	}
	defer s.Close()
	src, err := keep(s, ref)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("read record at %s:%d: %w: the bucket's copy ends there", ref.Segment, ref.Offset, archive.ErrDamaged)
	}
	if err != nil {
		return nil, b.wrap(ctx, "read record of", ref.Segment, err)
	}
	return archive.ReadRecordFrom(src, ref, keys...)
}

// part is a piece of a segment that answers to its offsets in the segment.
type part struct {
	io.ReaderAt
	begin int64
	close func() error
}

// keep takes a record's bytes from s.
func keep(s io.Reader, ref archive.Ref) (_ *part, err error) {
	if ref.Length <= inMemory {
		b := make([]byte, ref.Length)
		if _, err := io.ReadFull(s, b); err != nil {
			return nil, errEnd(err)
		}
		return &part{ReaderAt: bytes.NewReader(b), begin: ref.Offset, close: func() error { return nil }}, nil
	}
	f, err := os.CreateTemp("", ".record-*")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if err := os.Remove(f.Name()); err != nil {
		return nil, err
	}
	if _, err := io.CopyN(f, s, ref.Length); err != nil {
		return nil, errEnd(err)
	}
	return &part{ReaderAt: f, begin: ref.Offset, close: f.Close}, nil
}

// errEnd: too few bytes are too few, none too.
func errEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (p *part) ReadAt(b []byte, off int64) (int, error) {
	if off < p.begin {
		return 0, fs.ErrInvalid
	}
	return p.ReaderAt.ReadAt(b, off-p.begin)
}

// Close frees the bytes.
func (p *part) Close() error { return p.close() }
