package mbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Maildir writes messages, byte for byte, into a new Maildir.
type Maildir struct{ dir string }

// NewMaildir makes the directory; it must not exist.
func NewMaildir(dir string) (*Maildir, error) {
	for _, d := range []string{dir, filepath.Join(dir, "tmp"), filepath.Join(dir, "new"), filepath.Join(dir, "cur")} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return nil, err
		}
	}
	return &Maildir{dir}, nil
}

// Add writes a message. Its file's name tells when it came, its unique name and its
// size; the file's time is when it came, which IMAP servers show as such.
func (m *Maildir) Add(unique string, date time.Time, size int64, body io.Reader) (err error) {
	name := fmt.Sprintf("%d.%s.understudy,S=%d", date.Unix(), unique, size)
	tmp := filepath.Join(m.dir, "tmp", name)
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, body)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	if err := os.Chtimes(tmp, date, date); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(m.dir, "new", name))
}
