package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"understudy/internal/archive"
)

const openDir = "open" // holds the segments that are being written, and hidden files beside them

// strangers finds what lies in the archive's directory and is read by nobody:
// segments in a wrong place, as after a backup was put back, which are faults;
// and files that are no segments, which are only told.
func (c *checker) strangers() error {
	return filepath.WalkDir(c.archive.Dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) { // removed meanwhile; lost+found
			return nil
		}
		if err != nil {
			return fmt.Errorf("list the archive: %w", err)
		}
		at, err := filepath.Rel(c.archive.Dir, path)
		name, dir := filepath.Base(at), filepath.Dir(at)
		switch {
		case err != nil:
			return err
		case d.IsDir() && at != "." && strings.HasPrefix(name, "."): // a file system's snapshots
			return fs.SkipDir
		case d.IsDir():
			return nil
		}
		place, err := archive.SealedName(name)
		switch {
		case err == nil && (at == place || dir == openDir):
		case err == nil:
			c.report.Misplaced++
			c.fault(fault{Segment: name, Why: fmt.Sprintf("lies in %s, where it is not read: its place is %s", at, place)})
		case dir == openDir && strings.HasPrefix(name, "."):
		default:
			c.report.ForeignCount++
			if len(c.report.Foreign) < shownFaults {
				c.report.Foreign = append(c.report.Foreign, at)
			}
		}
		return nil
	})
}
