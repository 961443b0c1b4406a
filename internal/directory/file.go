package directory

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"
)

// A saved directory is lines of JSON: a head, the directory in as many lines
// as the head says, and then the changes since, one a line, in order. Adding a
// change so costs what the change costs, however large the directory is. The
// last change may be torn; it is left out then.
const (
	fileFormat  = 2    // another number means another layout, which is refused
	rowsPerLine = 1000 // of one line at most, so that neither side holds a second copy of everything
)

type fileHead struct {
	Format int `json:"format"`
	Lines  int `json:"lines"`
}

// snapshot is all that is in memory. Rows never change, so they are shared.
func (d *Directory) snapshot() *Change {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return &Change{
		Full: true, Epoch: d.past.epoch, Mark: d.past.mark, Version: d.past.version,
		Domains:     slices.Collect(maps.Values(d.domains)),
		Mailboxes:   slices.Collect(maps.Values(d.mailboxes)),
		Aliases:     slices.Collect(maps.Values(d.aliases)),
		Credentials: slices.Collect(maps.Values(d.credentials)),
		Outbound:    slices.Collect(maps.Values(d.accounts.byID)),
		Limits:      slices.Collect(maps.Values(d.limits)),
	}
}

// lines cuts a change into such of a line each.
func (c *Change) lines() []*Change {
	out := []*Change{{Full: c.Full, Epoch: c.Epoch, Mark: c.Mark, Version: c.Version, Deleted: c.Deleted}}
	cut(c.Domains, func(x []*Domain) { out = append(out, &Change{Domains: x}) })
	cut(c.Mailboxes, func(x []*Mailbox) { out = append(out, &Change{Mailboxes: x}) })
	cut(c.Aliases, func(x []*Alias) { out = append(out, &Change{Aliases: x}) })
	cut(c.Credentials, func(x []*Credential) { out = append(out, &Change{Credentials: x}) })
	cut(c.Outbound, func(x []*OutboundAccount) { out = append(out, &Change{Outbound: x}) })
	cut(c.Limits, func(x []*SendLimit) { out = append(out, &Change{Limits: x}) })
	return out
}

func cut[T any](rows []T, add func([]T)) {
	for part := range slices.Chunk(rows, rowsPerLine) {
		add(part)
	}
}

// join is the opposite of lines.
func join(lines []*Change) *Change {
	all := lines[0]
	for _, c := range lines[1:] {
		all.Domains = append(all.Domains, c.Domains...)
		all.Mailboxes = append(all.Mailboxes, c.Mailboxes...)
		all.Aliases = append(all.Aliases, c.Aliases...)
		all.Credentials = append(all.Credentials, c.Credentials...)
		all.Outbound = append(all.Outbound, c.Outbound...)
		all.Limits = append(all.Limits, c.Limits...)
	}
	return all
}

// write makes the file anew, atomically, readable by its owner only (it may
// hold password hashes), and returns its size in bytes.
func (c *Change) write(path string) (size int64, err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".directory-*")
	if err != nil {
		return 0, fmt.Errorf("save directory: %w", err)
	}
	defer os.Remove(tmp.Name()) // a no-op once renamed
	w := bufio.NewWriterSize(tmp, 1<<16)
	out := json.NewEncoder(w)
	lines := c.lines()
	err = out.Encode(fileHead{Format: fileFormat, Lines: len(lines)})
	for _, line := range lines {
		if err == nil {
			err = out.Encode(line)
		}
	}
	err = errors.Join(err, w.Flush(), tmp.Sync())
	if err == nil {
		size, err = tmp.Seek(0, io.SeekCurrent)
	}
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err == nil { // else the old file may be back after a crash
		err = syncDirectory(filepath.Dir(path))
	}
	if err != nil {
		return 0, fmt.Errorf("save directory to %s: %w", path, err)
	}
	return size, nil
}

func syncDirectory(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// appendTo adds changes to a file that write made, and returns how many bytes
// these are.
func appendTo(path string, changes []*Change) (size int64, err error) {
	var b bytes.Buffer
	out := json.NewEncoder(&b)
	for _, c := range changes {
		if err := out.Encode(c); err != nil {
			return 0, fmt.Errorf("save directory changes: %w", err)
		}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return 0, fmt.Errorf("save directory changes: %w", err)
	}
	_, err = f.Write(b.Bytes())
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, fmt.Errorf("save directory changes to %s: %w", path, err)
	}
	return int64(b.Len()), nil
}

// Open returns the directory that is saved in a file. A damaged file is no
// reason to stay away: what comes before the damage is believed, and without
// anything every answer is temporary until PostgreSQL was reached.
func Open(path string, log *slog.Logger) *Directory {
	d := New()
	err := d.Load(path)
	switch {
	case err != nil && d.Loaded():
		log.Error("saved directory is damaged; loaded up to a version, what came later waits for PostgreSQL", "version", d.Version(), "error", err)
	case err != nil:
		log.Error("saved directory is unusable; all mail and logins wait for PostgreSQL", "error", err)
	}
	return d
}

// Load fills the directory from a saved file. A missing file leaves it
// unloaded and is no error.
func (d *Directory) Load(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("load directory: %w", err)
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, 1<<16)
	base, err := readBase(in)
	if err != nil {
		return fmt.Errorf("load directory from %s: %w (remove the file to start from PostgreSQL)", path, err)
	}
	d.Apply(base)
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) { // nothing more, or a torn change
			return nil
		}
		c := &Change{}
		if err == nil {
			err = json.Unmarshal(line, c)
		}
		if err != nil { // what came before is whole
			return fmt.Errorf("load directory from %s: changes after version %d are unusable: %w", path, d.Version(), err)
		}
		d.Apply(c)
	}
}

// readBase reads the head and the lines of a whole directory.
func readBase(in *bufio.Reader) (*Change, error) {
	line, err := in.ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("head: %w", err)
	}
	var head fileHead
	if err := json.Unmarshal(line, &head); err != nil {
		return nil, fmt.Errorf("head: %w", err)
	}
	if head.Format != fileFormat || head.Lines < 1 {
		return nil, fmt.Errorf("format %d, want %d", head.Format, fileFormat)
	}
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	lines := []*Change{}
	for n := range head.Lines {
		text, err := in.ReadBytes('\n')
		if err != nil {
			return nil, errors.Join(fmt.Errorf("line %d of %d: %w", n+1, head.Lines, err), g.Wait())
		}
		c := &Change{}
		lines = append(lines, c)
		g.Go(func() error { return json.Unmarshal(text, c) })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return join(lines), nil
}
