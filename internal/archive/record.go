package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"math"

	"filippo.io/age"
)

// Record is one archived message.
type Record struct {
	Envelope
	Ref
	Size int64     // of the message, in bytes
	Body io.Reader // the message as received; valid until the next Next

	check func() error
	close func() error
}

// Check reads what is left of the record and reports ErrDamaged unless it
// decompresses to exactly what its header says. The record is used up then.
func (r *Record) Check() error {
	if err := r.check(); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}

// Close frees a record that came from ReadRecord.
func (r *Record) Close() error {
	if r.close == nil {
		return nil
	}
	return r.close()
}

// decode reads the envelope of a verified record.
func (r *SegmentReader) decode(start int64, h header) (*Record, error) {
	content, err := r.content(start, h)
	if err != nil {
		return nil, err
	}
	r.in.Reset(content)
	if err := r.decoder.Reset(r.in); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	plain := &io.LimitedReader{R: r.decoder, N: h.plain}
	t := tar.NewReader(plain)
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
	check := func() error {
		if _, err := io.Copy(io.Discard, t); err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, plain); err != nil {
			return err
		}
		if plain.N > 0 {
			return fmt.Errorf("%d bytes are missing", plain.N)
		}
		n, err := io.Copy(io.Discard, r.decoder)
		if err == nil && n > 0 {
			err = fmt.Errorf("%d bytes too many", n)
		}
		return err
	}
	return &Record{Envelope: *e, Size: entry.Size, Body: t, check: check,
		Ref: Ref{Segment: r.name, Offset: start, Length: headerSize + h.payload}}, nil
}

// ReadRecord opens one record; Close it. The error is ErrDamaged when the
// record is not there or does not verify, fs.ErrNotExist when its segment is
// gone, ErrEncrypted when none of keys fits.
func ReadRecord(dir string, ref Ref, keys ...age.Identity) (*Record, error) {
	r, err := OpenSegment(dir, ref.Segment, keys...)
	if err != nil {
		return nil, err
	}
	return r.record(ref)
}

// ReadRecordFrom is ReadRecord for a src that holds the segment's bytes at
// their offsets, at least those of the record. Who closes the record closes
// src; after an error src is closed.
func ReadRecordFrom(src Source, ref Ref, keys ...age.Identity) (*Record, error) {
	if err := ref.Validate(); err != nil {
		return nil, errors.Join(err, src.Close())
	}
	r, err := NewSegmentReader(ref.Segment, src, ref.Offset+ref.Length, keys...)
	if err != nil {
		return nil, err
	}
	return r.record(ref)
}

// Validate checks that a record may be at such a place.
func (ref Ref) Validate() error {
	if _, err := parseName(ref.Segment); err != nil {
		return err
	}
	if ref.Offset < 0 || ref.Length <= headerSize || ref.Length > headerSize+maxRecord || ref.Offset > math.MaxInt64-ref.Length {
		return fmt.Errorf("%w: no record has %d bytes at %d", ErrDamaged, ref.Length, ref.Offset)
	}
	return nil
}

// record opens the one record at ref; the reader is closed with it.
func (r *SegmentReader) record(ref Ref) (*Record, error) {
	rec, err := r.readAt(ref)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read record at %s:%d: %w", ref.Segment, ref.Offset, err), r.Close())
	}
	rec.close = r.Close
	return rec, nil
}

func (r *SegmentReader) readAt(ref Ref) (*Record, error) {
	size, err := r.length()
	if err != nil {
		return nil, err
	}
	if err := ref.Validate(); err != nil {
		return nil, err
	}
	if ref.Offset > size-ref.Length {
		return nil, fmt.Errorf("%w: outside of the segment", ErrDamaged)
	}
	r.scan.buf = make([]byte, scanBuffer)
	h, ok, err := r.scan.at(ref.Offset, ref.Offset+ref.Length)
	if err != nil {
		return nil, err
	}
	if !ok && r.scan.newer != 0 {
		return nil, fmt.Errorf("%w %d; this program reads versions up to %d: update it", ErrVersion, r.scan.newer, formatVersion)
	}
	if !ok || headerSize+h.payload != ref.Length {
		return nil, ErrDamaged
	}
	return r.decode(ref.Offset, h)
}
