package archive

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
)

// maxWindow is the most that a frame may ask its reader to remember, in bytes
// (RFC 8878 section 3.1.1.1.2 recommends to support this much).
const maxWindow = 8 << 20

// Source is where the bytes of a segment are: a file, or an object elsewhere.
type Source interface {
	io.ReaderAt
	io.Closer
}

// SegmentReader walks the records of one segment, open or sealed. It is not
// safe for use by several goroutines at once.
type SegmentReader struct {
	dir     string
	name    string
	nonce   nonce
	src     Source
	size    int64    // of a src that is no file
	mark    *os.File // nil once the segment is sealed
	pos     int64
	damaged int64
	seen    int64 // newest limit read from the mark
	scan    scanner
	decoder *zstd.Decoder
	in      *bufio.Reader
	keys    []age.Identity
}

// OpenSegment opens a segment for reading, encrypted records with keys. The
// error is fs.ErrNotExist when there is no such segment.
func OpenSegment(dir, name string, keys ...age.Identity) (*SegmentReader, error) {
	n, err := parseName(name)
	if err != nil {
		return nil, err
	}
	r := &SegmentReader{dir: dir, name: name, nonce: n, keys: keys}
	if err := r.open(); err != nil {
		return nil, fmt.Errorf("open segment: %w", err)
	}
	return r.prepare()
}

// NewSegmentReader reads the sealed segment whose size bytes are in src. It
// closes src with itself, and also when it returns an error.
func NewSegmentReader(name string, src Source, size int64, keys ...age.Identity) (*SegmentReader, error) {
	n, err := parseName(name)
	if err != nil {
		return nil, errors.Join(err, src.Close())
	}
	r := &SegmentReader{name: name, nonce: n, src: src, size: size, keys: keys}
	return r.prepare()
}

// prepare makes what decodes.
func (r *SegmentReader) prepare() (*SegmentReader, error) {
	var err error
	r.decoder, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open segment %s: %w", r.name, err), r.closeFiles())
	}
	r.scan = scanner{src: r.src, nonce: r.nonce}
	r.in = bufio.NewReaderSize(nil, 32<<10)
	return r, nil
}

// open finds the file. It looks twice, because a segment may be sealed
// between the looks.
func (r *SegmentReader) open() error {
	var f *os.File
	var err error
	for range 2 {
		if f, err = os.Open(openPath(r.dir, r.name)); err == nil {
			if r.mark, err = os.Open(markPath(r.dir, r.name)); err == nil {
				r.src = f
				return nil
			}
			f.Close() // sealed this moment, or its mark is lost: then it waits for recovery
		}
		if f, err = os.Open(sealedPath(r.dir, r.name)); err == nil {
			r.mark, r.src = nil, f
			return nil
		}
	}
	return err
}

// Open reports whether the segment was still being written when it was last
// looked at: after io.EOF there may be more later.
func (r *SegmentReader) Open() bool { return r.mark != nil }

// Offset is the position behind the last record returned, from which a later
// reader goes on (SeekTo).
func (r *SegmentReader) Offset() int64 { return r.pos }

// Damaged is the number of bytes skipped so far because no record could be
// read there.
func (r *SegmentReader) Damaged() int64 { return r.damaged }

// Newer is the highest format version met so far that this program does not
// know, 0 when there was none. Such records count as damage.
func (r *SegmentReader) Newer() uint16 { return r.scan.newer }

// SeekTo sets where Next looks for the next record. An offset that is not the
// begin of a record counts as damage up to the next one.
func (r *SegmentReader) SeekTo(offset int64) error {
	if offset < 0 {
		return fmt.Errorf("seek in segment %s: offset %d", r.name, offset)
	}
	r.pos = offset
	return nil
}

// Close frees the reader.
func (r *SegmentReader) Close() error {
	r.decoder.Close()
	return r.closeFiles()
}

func (r *SegmentReader) closeFiles() error {
	if r.mark != nil {
		r.mark.Close()
	}
	return r.src.Close()
}

// Next returns the next good record. It returns io.EOF when there is none; of
// an open segment, or one sealed meanwhile, a later call sees what came. For a
// record that is whole but for which it has no key it returns an
// EncryptedError, and the next call goes on behind it.
func (r *SegmentReader) Next() (*Record, error) {
	for {
		limit, err := r.limit()
		if err != nil {
			return nil, fmt.Errorf("read segment %s: %w", r.name, err)
		}
		start, h, err := r.scan.next(r.pos, limit)
		if err == io.EOF {
			if r.Open() && r.sealedMeanwhile() {
				continue
			}
			if limit > r.pos { // complete records end exactly at the limit
				r.damaged += limit - r.pos
				r.pos = limit
			}
			return nil, io.EOF
		}
		if err != nil {
			return nil, fmt.Errorf("read segment %s at %d: %w", r.name, r.pos, err)
		}
		r.damaged += start - r.pos
		r.pos = start + headerSize + h.payload
		rec, err := r.decode(start, h)
		if errors.Is(err, ErrEncrypted) {
			return nil, err
		}
		if err != nil { // its checksum is right but it is no record of this format
			r.damaged++
			r.pos = start + 1
			continue
		}
		return rec, nil
	}
}

// limit is how far the segment may be read now: to its end when it is sealed,
// to what is committed when it is open.
func (r *SegmentReader) limit() (int64, error) {
	size, err := r.length()
	if err != nil || r.mark == nil {
		return size, err
	}
	if v, ok := readMark(r.mark); ok { // else torn by a write this moment: the next call sees it
		r.seen = v
	}
	return min(size, r.seen), nil
}

// length is how many bytes there are, committed or not.
func (r *SegmentReader) length() (int64, error) {
	f, ok := r.src.(*os.File)
	if !ok {
		return r.size, nil
	}
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// sealedMeanwhile reports that the segment is now sealed, and goes on with
// the whole file (recovery may have found records behind the mark).
func (r *SegmentReader) sealedMeanwhile() bool {
	f, err := os.Open(sealedPath(r.dir, r.name))
	if err != nil {
		return false
	}
	r.closeFiles() //nolint:errcheck // only read
	r.src, r.mark = f, nil
	r.scan.src = f
	return true
}
