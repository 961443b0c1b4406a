package lockout

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// fileFormat is the number at the head of the file.
const fileFormat = 1

type fileContent struct {
	Format    int         `json:"format"`
	Accounts  []fileEntry `json:"accounts"` // the oldest first
	Addresses []fileEntry `json:"addresses"`
}

type fileEntry struct {
	Key      string    `json:"key"`
	Failures int       `json:"failures"`
	Last     time.Time `json:"last"`
}

// Save writes the counts to a file, atomically and readable by its owner
// only, if there is anything new. No fingerprint of a password is written.
func (l *Lockout) Save(path string) error {
	l.mu.Lock()
	changes := l.changes
	if changes == l.saved {
		l.mu.Unlock()
		return nil
	}
	content := fileContent{Format: fileFormat, Accounts: l.accounts.export(), Addresses: l.addresses.export()}
	l.mu.Unlock()
	if err := writeFile(path, &content); err != nil {
		return fmt.Errorf("save lockout counts: %w", err)
	}
	l.mu.Lock()
	l.saved = changes
	l.mu.Unlock()
	return nil
}

func writeFile(path string, content *fileContent) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".lockout-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // a no-op once renamed
	if err := errors.Join(json.NewEncoder(tmp).Encode(content), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// Load takes in what Save wrote. A missing file is no error. After an error
// the counts are empty, which a service can well start with.
func (l *Lockout) Load(path string) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("load lockout counts: %w", err)
	}
	var c fileContent
	if err := json.Unmarshal(text, &c); err != nil {
		return fmt.Errorf("load lockout counts from %s: %w", path, err)
	}
	if c.Format != fileFormat {
		return fmt.Errorf("load lockout counts from %s: format %d, want %d", path, c.Format, fileFormat)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.accounts.restore(c.Accounts, l.now())
	l.addresses.restore(c.Addresses, l.now())
	return nil
}

func (t *table) export() []fileEntry {
	out := make([]fileEntry, 0, len(t.entries))
	for e := t.order.Back(); e != nil; e = e.Prev() {
		x := e.Value.(*entry)
		out = append(out, fileEntry{Key: x.key, Failures: x.failures, Last: x.last.UTC()})
	}
	return out
}

func (t *table) restore(entries []fileEntry, now time.Time) {
	for _, e := range entries {
		last := e.Last
		if last.After(now) { // the clock was set back: lock no longer than from now
			last = now
		}
		if e.Key == "" || e.Failures <= 0 || now.Sub(last) > t.config.Forget || t.entries[e.Key] != nil {
			continue
		}
		t.add(&entry{key: e.Key, failures: e.Failures, last: last}, now)
	}
}
