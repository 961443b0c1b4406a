package archive

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// SealedName is the path of a sealed segment below an archive's directory, or
// in another store: YYYY-MM-DD/NAME.
func SealedName(name string) (string, error) {
	if _, err := parseName(name); err != nil {
		return "", err
	}
	return sealedPath("", name), nil
}

// Started is when a segment was begun, from its name: UTC, in microseconds.
func Started(name string) (time.Time, error) {
	if _, err := parseName(name); err != nil {
		return time.Time{}, err
	}
	t, err := time.Parse(nameLayout, name[:len("20060102T150405.000000Z")])
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: %w", ErrName, err)
	}
	return t, nil
}

// RemoveSealed unlinks a sealed segment, durably. One that is not there is no
// error. Its day's directory stays: the writer may be about to seal into it.
func RemoveSealed(dir, name string) error {
	if _, err := parseName(name); err != nil {
		return err
	}
	path := sealedPath(dir, name)
	if err := os.Remove(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("remove segment: %w", err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("remove segment %s: %w", name, err)
	}
	return nil
}
