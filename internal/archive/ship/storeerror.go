package ship

import (
	"errors"
	"io/fs"

	"understudy/internal/archive"
)

// StoreError is an error of the bucket or on the way to it, its refusal of our
// credentials included: what was asked for may well be there.
type StoreError struct{ Err error }

func (e *StoreError) Error() string { return e.Err.Error() }
func (e *StoreError) Unwrap() error { return e.Err }

// storeError makes an error of reading from the bucket a StoreError, but for
// those that say something about the record itself.
func storeError(err error) error {
	for _, known := range []error{fs.ErrNotExist, archive.ErrDamaged, archive.ErrEncrypted} {
		if errors.Is(err, known) {
			return err
		}
	}
	return &StoreError{err}
}
