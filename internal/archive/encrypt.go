package archive

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"

	"filippo.io/age"
	"github.com/google/uuid"
)

// EncryptedError says of which record the content cannot be read for want of
// a key. It is ErrEncrypted.
type EncryptedError struct {
	Ref   Ref
	ID    uuid.UUID
	Wrong bool // there are identities, but none is a recipient of the record
}

// Error names the record and what to do.
func (e *EncryptedError) Error() string {
	if e.Wrong {
		return fmt.Sprintf("message %s is %v (none of the identities in it fits)", e.ID, ErrEncrypted)
	}
	return fmt.Sprintf("message %s is %v", e.ID, ErrEncrypted)
}

// Unwrap returns ErrEncrypted.
func (e *EncryptedError) Unwrap() error { return ErrEncrypted }

// ParseRecipients reads public keys of age: "age1..." each, as age-keygen
// prints them.
func ParseRecipients(list []string) ([]age.Recipient, error) {
	var out []age.Recipient
	for i, text := range list {
		r, err := age.ParseRecipients(strings.NewReader(text))
		if err != nil || len(r) != 1 { // the text may be a secret key by mistake: never in an error
			return nil, fmt.Errorf("number %d is no public key of age (age1...)", i+1)
		}
		out = append(out, r[0])
	}
	if len(out) > 0 {
		if _, err := age.Encrypt(io.Discard, out...); err != nil { // some kinds do not go together
			return nil, err
		}
	}
	return out, nil
}

// LoadIdentities reads the secret keys of age in a file as age-keygen makes
// it. An empty path means none.
func LoadIdentities(path string) ([]age.Identity, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read identities: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read identities: %w", err)
	}
	if info.Mode()&fs.FileMode(0o007) != 0 {
		return nil, fmt.Errorf("identities in %s: everybody may use the file (mode %04o): chmod o= %s", path, info.Mode().Perm(), path)
	}
	keys, err := age.ParseIdentities(io.LimitReader(f, 1<<20))
	if err != nil { // whose text may hold a part of a key
		return nil, fmt.Errorf("identities in %s: not as age-keygen makes them (AGE-SECRET-KEY-1..., one a line)", path)
	}
	return keys, nil
}

// headBuffers keep the many small writes of an age header together.
var headBuffers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, chunkSize/2) }}

// encrypt has write write to an age file for the recipients, which goes to w.
func encrypt(w io.Writer, recipients []age.Recipient, write func(io.Writer) error) error {
	b := headBuffers.Get().(*bufio.Writer)
	defer func() {
		b.Reset(nil)
		headBuffers.Put(b)
	}()
	b.Reset(w)
	to, err := age.Encrypt(b, recipients...)
	if err != nil {
		return fmt.Errorf("encrypt: %w", err)
	}
	if err := write(to); err != nil {
		return err
	}
	if err := to.Close(); err != nil {
		return fmt.Errorf("encrypt: %w", err)
	}
	return b.Flush()
}

// content reads the zstd frames of a verified record.
func (r *SegmentReader) content(start int64, h header) (io.Reader, error) {
	section := io.NewSectionReader(r.src, start+headerSize+h.wrapped(), h.payload-h.wrapped())
	if !h.encrypted {
		return section, nil
	}
	missing := &EncryptedError{Ref: Ref{Segment: r.name, Offset: start, Length: headerSize + h.payload}, ID: h.id}
	if len(r.keys) == 0 {
		return nil, missing
	}
	plain, err := age.Decrypt(bufio.NewReaderSize(section, 32<<10), r.keys...)
	var none *age.NoIdentityMatchError
	if errors.As(err, &none) {
		missing.Wrong = true
		return nil, missing
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return plain, nil
}
