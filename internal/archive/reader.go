package archive

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
)

// maxWindow is the most that a frame may ask its reader to remember, in bytes
// (RFC 8878 section 3.1.1.1.2 recommends to support this much).
const maxWindow = 8 << 20

// Record is one archived message.
type Record struct {
	Envelope
	Ref
	Size int64     // of the message, in bytes
	Body io.Reader // the message as received; valid until the next Next

	close func() error
}

// Close frees a record that came from ReadRecord.
func (r *Record) Close() error {
	if r.close == nil {
		return nil
	}
	return r.close()
}

// SegmentReader walks the records of one segment, open or sealed. It is not
// safe for use by several goroutines at once.
type SegmentReader struct {
	dir     string
	name    string
	nonce   nonce
	file    *os.File
	mark    *os.File // nil once the segment is sealed
	pos     int64
	damaged int64
	seen    int64 // newest limit read from the mark
	scan    scanner
	decoder *zstd.Decoder
	in      *bufio.Reader
}

// OpenSegment opens a segment for reading. The error is fs.ErrNotExist when
// there is no such segment.
func OpenSegment(dir, name string) (*SegmentReader, error) {
	n, err := parseName(name)
	if err != nil {
		return nil, err
	}
	r := &SegmentReader{dir: dir, name: name, nonce: n}
	if err := r.open(); err != nil {
		return nil, fmt.Errorf("open segment: %w", err)
	}
	r.scan = scanner{src: r.file, nonce: n}
	r.decoder, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		r.file.Close()
		return nil, fmt.Errorf("open segment %s: %w", name, err)
	}
	r.in = bufio.NewReaderSize(nil, 32<<10)
	return r, nil
}

// open finds the file. It looks twice, because a segment may be sealed
// between the looks.
func (r *SegmentReader) open() error {
	var err error
	for range 2 {
		if r.file, err = os.Open(openPath(r.dir, r.name)); err == nil {
			if r.mark, err = os.Open(markPath(r.dir, r.name)); err == nil {
				return nil
			}
			r.file.Close() // sealed this moment, or its mark is lost: then it waits for recovery
		}
		if r.file, err = os.Open(sealedPath(r.dir, r.name)); err == nil {
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
	if r.mark != nil {
		r.mark.Close()
	}
	return r.file.Close()
}

// Next returns the next good record. It returns io.EOF when there is none; of
// an open segment, or one sealed meanwhile, a later call sees what came.
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
		if err != nil { // its checksum is right but it is no record of this format
			r.damaged += r.pos - start
			continue
		}
		return rec, nil
	}
}

// limit is how far the segment may be read now: to its end when it is sealed,
// to what is committed when it is open.
func (r *SegmentReader) limit() (int64, error) {
	info, err := r.file.Stat()
	if err != nil {
		return 0, err
	}
	if r.mark == nil {
		return info.Size(), nil
	}
	if v, ok := readMark(r.mark); ok { // else torn by a write this moment: the next call sees it
		r.seen = v
	}
	return min(info.Size(), r.seen), nil
}

// sealedMeanwhile reports that the segment is now sealed, and goes on with
// the whole file (recovery may have found records behind the mark).
func (r *SegmentReader) sealedMeanwhile() bool {
	f, err := os.Open(sealedPath(r.dir, r.name))
	if err != nil {
		return false
	}
	r.file.Close()
	r.mark.Close()
	r.file, r.mark = f, nil
	r.scan.src = f
	return true
}

// decode reads the envelope of a verified record.
func (r *SegmentReader) decode(start int64, h header) (*Record, error) {
	r.in.Reset(io.NewSectionReader(r.file, start+headerSize, h.payload))
	if err := r.decoder.Reset(r.in); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	t := tar.NewReader(io.LimitReader(r.decoder, h.plain))
	entry, err := t.Next()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	e, err := envelopeOf(entry)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if e.ID != h.id || entry.Size < 0 || entry.Size > h.plain {
		return nil, fmt.Errorf("%w: entry %s does not fit its header", ErrDamaged, e.ID)
	}
	return &Record{Envelope: *e, Size: entry.Size, Body: t,
		Ref: Ref{Segment: r.name, Offset: start, Length: headerSize + h.payload}}, nil
}

// ReadRecord opens one record; Close it. The error is ErrDamaged when the
// record is not there or does not verify, fs.ErrNotExist when its segment is
// gone.
func ReadRecord(dir string, ref Ref) (*Record, error) {
	r, err := OpenSegment(dir, ref.Segment)
	if err != nil {
		return nil, err
	}
	rec, err := r.readAt(ref)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read record at %s:%d: %w", ref.Segment, ref.Offset, err), r.Close())
	}
	rec.close = r.Close
	return rec, nil
}

func (r *SegmentReader) readAt(ref Ref) (*Record, error) {
	info, err := r.file.Stat()
	if err != nil {
		return nil, err
	}
	if ref.Offset < 0 || ref.Length < headerSize || ref.Offset > info.Size()-ref.Length {
		return nil, fmt.Errorf("%w: outside of the segment", ErrDamaged)
	}
	r.scan.buf = make([]byte, scanBuffer)
	h, ok, err := r.scan.at(ref.Offset, ref.Offset+ref.Length)
	if err != nil {
		return nil, err
	}
	if !ok || headerSize+h.payload != ref.Length {
		return nil, ErrDamaged
	}
	return r.decode(ref.Offset, h)
}
