package stack

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// The longest directory in which every socket's path still fits into the 107
// octets of sun_path: Dovecot adds "/dovecot/run/token-login/imap-urlauth",
// the portal's delivery "/postfix/queue/private/dovecot-lmtp".
const longestDir = 107 - len("/dovecot/run/token-login/imap-urlauth.tmp")

// marker is the file by which a directory is known to be a stack's, so that
// none is ever removed that is not.
const marker = ".understudy-stack"

// home is a stack's directory, locked against other Up and Down calls.
type home struct {
	link   string // as asked for, absolute
	dir    string // the real one
	exists bool   // a stack is in it already
	lock   *os.File
}

// prepareDirectory makes the directory, or finds it. When sockets cannot live
// there it makes one below /var/tmp, and the one asked for a link to it.
func prepareDirectory(asked string) (*home, error) {
	h, err := openDirectory(asked)
	if err != nil {
		return nil, err
	}
	if h.exists {
		return h, nil
	}
	if h.dir != "" { // what a failed start left: its logs
		if err := clearDirectory(h.dir); err != nil {
			h.unlock()
			return nil, err
		}
		return h, nil
	}
	if h.dir, err = makeHome(h.link); err != nil {
		return nil, err
	}
	if err := writeFile(filepath.Join(h.dir, marker), nil, 0o600); err != nil {
		return nil, err
	}
	if err := h.takeLock(); err != nil {
		return nil, err
	}
	return h, nil
}

// openDirectory looks at what is there and locks it. A home without dir means
// that nothing is there.
func openDirectory(asked string) (*home, error) {
	link, err := filepath.Abs(asked)
	if err != nil {
		return nil, fmt.Errorf("find directory: %w", err)
	}
	h := &home{link: link}
	real, err := filepath.EvalSymlinks(link)
	if errors.Is(err, fs.ErrNotExist) {
		return h, removeDangling(link)
	} else if err != nil {
		return nil, fmt.Errorf("find directory: %w", err)
	}
	entries, err := os.ReadDir(real)
	if err != nil {
		return nil, fmt.Errorf("find directory: %w", err)
	}
	if len(entries) == 0 {
		return h, nil
	}
	if _, err := os.Lstat(filepath.Join(real, marker)); err != nil {
		return nil, fmt.Errorf("%s is not empty and not a scratch stack's directory: choose another with RUN_DIR=", link)
	}
	h.dir = real
	if err := h.takeLock(); err != nil {
		return nil, err
	}
	_, err = os.Lstat(filepath.Join(real, "etc"))
	h.exists = err == nil
	return h, nil
}

// removeDangling removes a link whose directory is gone (/var/tmp cleaned).
func removeDangling(link string) error {
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("find directory: %w", err)
	}
	return nil
}

// makeHome makes the directory where the stack really lives.
func makeHome(link string) (string, error) {
	parent := filepath.Dir(link)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", fmt.Errorf("make directory: %w", err)
	}
	real, err := filepath.EvalSymlinks(parent)
	if err != nil {
		return "", fmt.Errorf("make directory: %w", err)
	}
	real = filepath.Join(real, filepath.Base(link))
	if len(real) <= longestDir && othersMayEnter(filepath.Dir(real)) {
		if err := os.Mkdir(real, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("make directory: %w", err)
		}
		return real, os.Chmod(real, 0o755)
	}
	if real, err = os.MkdirTemp("/var/tmp", "understudy-"); err != nil {
		return "", fmt.Errorf("make directory: %w", err)
	}
	if err := removeDangling(link); err != nil { // an empty directory
		return "", err
	}
	if err := os.Symlink(real, link); err != nil {
		return "", fmt.Errorf("make directory: %w", err)
	}
	return real, os.Chmod(real, 0o755)
}

// othersMayEnter says whether the users of Postfix and PostgreSQL can reach
// what is below dir.
func othersMayEnter(dir string) bool {
	for {
		st, err := os.Stat(dir)
		if err != nil || st.Mode().Perm()&0o001 == 0 {
			return false
		}
		if dir == "/" {
			return true
		}
		dir = filepath.Dir(dir)
	}
}

func (h *home) takeLock() error {
	f, err := os.OpenFile(filepath.Join(h.dir, marker), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("lock %s: %w", h.dir, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return fmt.Errorf("another make up or make down is at work in %s", h.link)
	}
	h.lock = f
	return nil
}

func (h *home) unlock() {
	if h.lock != nil {
		h.lock.Close()
		h.lock = nil
	}
}

// remove deletes the directory and the link to it.
func (h *home) remove() error {
	if err := os.RemoveAll(h.dir); err != nil {
		return fmt.Errorf("remove stack: %w", err)
	}
	if h.link != h.dir {
		return removeDangling(h.link)
	}
	return nil
}

// clearDirectory removes all but the marker.
func clearDirectory(dir string) error { return removeExcept(dir, marker) }

func removeExcept(dir string, keep ...string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("clear %s: %w", dir, err)
	}
	var errs []error
	for _, e := range entries {
		if !slices.Contains(keep, e.Name()) {
			errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}
