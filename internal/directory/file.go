package directory

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// fileFormat is the number at the head of a saved directory; another number
// means another layout, which is refused.
const fileFormat = 1

type fileContent struct {
	Format      int           `json:"format"`
	Epoch       string        `json:"epoch"`
	Version     int64         `json:"version"`
	Domains     []*Domain     `json:"domains"`
	Mailboxes   []*Mailbox    `json:"mailboxes"`
	Aliases     []*Alias      `json:"aliases"`
	Credentials []*Credential `json:"credentials,omitempty"`
}

// Save writes the directory to a file, atomically, readable by its owner
// only (it may hold password hashes).
func (d *Directory) Save(path string) error {
	d.mu.RLock()
	c := fileContent{
		Format: fileFormat, Epoch: d.epoch, Version: d.version,
		Domains:     slices.Collect(maps.Values(d.domains)),
		Mailboxes:   slices.Collect(maps.Values(d.mailboxes)),
		Aliases:     slices.Collect(maps.Values(d.aliases)),
		Credentials: slices.Collect(maps.Values(d.credentials)),
	}
	d.mu.RUnlock()
	tmp, err := os.CreateTemp(filepath.Dir(path), ".directory-*")
	if err != nil {
		return fmt.Errorf("save directory: %w", err)
	}
	defer os.Remove(tmp.Name()) // a no-op once renamed
	w := bufio.NewWriterSize(tmp, 1<<16)
	err = errors.Join(json.NewEncoder(w).Encode(c), w.Flush(), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("save directory to %s: %w", path, err)
	}
	return nil
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
	var c fileContent
	if err := json.NewDecoder(bufio.NewReaderSize(f, 1<<16)).Decode(&c); err != nil {
		return fmt.Errorf("load directory from %s: %w (remove the file to start from PostgreSQL)", path, err)
	}
	if c.Format != fileFormat {
		return fmt.Errorf("load directory from %s: format %d, want %d", path, c.Format, fileFormat)
	}
	d.Apply(&Change{Full: true, Epoch: c.Epoch, Version: c.Version, Domains: c.Domains,
		Mailboxes: c.Mailboxes, Aliases: c.Aliases, Credentials: c.Credentials})
	return nil
}
