package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"understudy/internal/archive"
	"understudy/internal/mbox"
)

const (
	maxImported = 512 << 20 // bytes of one message
	maxHead     = 64 << 10  // bytes of a message that are looked at for its fields
)

// incoming is a message to import.
type incoming struct {
	name   string // where it is from, for people
	spool  *archive.Spool
	head   []byte    // its first bytes
	sum    hash.Hash // of all its bytes
	sender string    // from an mbox separator, "" if unknown
	dated  time.Time // the same, zero if unknown
	filed  time.Time // the file's
}

func newIncoming(name string, filed time.Time) *incoming {
	return &incoming{name: name, spool: archive.NewSpool(os.TempDir(), maxImported), sum: sha256.New(), filed: filed}
}

// Write takes the message's bytes.
func (m *incoming) Write(p []byte) (int, error) {
	if room := maxHead - len(m.head); room > 0 {
		m.head = append(m.head, p[:min(room, len(p))]...)
	}
	m.sum.Write(p)
	return m.spool.Write(p)
}

// field returns the value of the first header field of a name, unfolded.
func (m *incoming) field(name string) string {
	rest := m.head
	for len(rest) > 0 {
		line, after, _ := bytes.Cut(rest, []byte("\r\n"))
		rest = after
		if len(line) == 0 {
			return ""
		}
		key, value, ok := strings.Cut(string(line), ":")
		for len(rest) > 0 && (rest[0] == ' ' || rest[0] == '\t') {
			line, after, _ = bytes.Cut(rest, []byte("\r\n"))
			rest, value = after, value+string(line)
		}
		if ok && strings.EqualFold(strings.TrimRight(key, " \t"), name) {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// source is what an import reads.
type source struct {
	format, path string
	files        []string
	size         int64 // of all files
	failed       func(name string, err error)
	progress     func(bytes int64)
}

// find lists the files.
func (s *source) find() error {
	info, err := os.Stat(s.path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		if s.format == "maildir" {
			return fmt.Errorf("%s is no directory, so no Maildir", s.path)
		}
		s.files, s.size = []string{s.path}, info.Size()
		return nil
	}
	if s.format == "mbox" {
		return fmt.Errorf("%s is a directory; give one mbox file, or --format maildir or eml", s.path)
	}
	root, err := filepath.EvalSymlinks(s.path) // WalkDir does not enter a link
	if err != nil {
		return err
	}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		link := d.Type()&fs.ModeSymlink != 0
		info, err := os.Stat(path)
		switch {
		case link && err == nil && info.IsDir():
			s.failed(path, errors.New("a link to a directory, which is not followed: import that directory by itself"))
			return nil
		case !s.wanted(path) || !link && !d.Type().IsRegular():
			return nil
		case err != nil:
			s.failed(path, err)
			return nil
		case info.Mode().IsRegular():
			s.files, s.size = append(s.files, path), s.size+info.Size()
		}
		return nil
	})
	if err == nil && len(s.files) == 0 {
		err = fmt.Errorf("%s holds no messages: a Maildir has them in cur/ and new/, eml files end in .eml", s.path)
	}
	return err
}

// wanted takes the files of a Maildir, and of the folders in it (Maildir++). A
// name that begins with a dot is no message's.
func (s *source) wanted(path string) bool {
	if s.format == "eml" {
		return strings.EqualFold(filepath.Ext(path), ".eml")
	}
	in := filepath.Base(filepath.Dir(path))
	return (in == "cur" || in == "new") && !strings.HasPrefix(filepath.Base(path), ".")
}

// each calls f with every message; f closes the spool. Messages that cannot be
// read are told to failed; the error is f's, or that ctx has ended.
func (s *source) each(ctx context.Context, f func(*incoming) error) error {
	for _, path := range s.files {
		if err := s.file(ctx, path, f); err != nil {
			return err
		}
	}
	return nil
}

func (s *source) file(ctx context.Context, path string, f func(*incoming) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		s.failed(path, err)
		return nil
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		s.failed(path, err)
		return nil
	}
	in, free, err := unpacked(&counted{file, s.progress})
	if err != nil {
		s.failed(path, err)
		return nil
	}
	defer free()
	if s.format == "mbox" {
		return s.mbox(ctx, path, in, info.ModTime(), f)
	}
	m := newIncoming(path, info.ModTime())
	if _, err = io.Copy(&wireLines{w: m}, in); err == nil {
		err = m.strange()
	}
	if err != nil {
		m.spool.Close()
		s.failed(path, err)
		return nil
	}
	return f(m)
}

func (s *source) mbox(ctx context.Context, path string, in io.Reader, filed time.Time, f func(*incoming) error) error {
	r := mbox.NewReader(in)
	for n := 1; ; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		m := newIncoming(fmt.Sprintf("%s, message %d", path, n), filed)
		// What is too large for a spool is still read to its end.
		into := &untilError{w: m}
		sep, err := r.Next(into)
		if err != nil || into.err != nil {
			m.spool.Close()
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			s.failed(m.name, err)
			return nil
		case into.err != nil:
			s.failed(m.name, into.err)
			continue
		}
		m.dated = sep.Date
		if strings.Contains(sep.Sender, "@") {
			m.sender = sep.Sender
		}
		if err := f(m); err != nil {
			return err
		}
	}
}
