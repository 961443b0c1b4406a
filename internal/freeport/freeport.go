// Package freeport finds loopback ports for servers that are started as
// processes of their own: the scratch stack's and the tests'.
//
// A port that was free a moment ago is anybody's until its server listens.
// So ports come from below the range that the kernel uses for outgoing
// connections (ip_local_port_range, ip(7)), and a lock keeps every other
// process that asks here from getting the same one while this one lives.
package freeport

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
)

const lowest, highest = 12000, 32000

// locks hold the ports given out, until the process ends.
var locks struct {
	sync.Mutex
	files map[int]*os.File
}

// Port gives a TCP port of 127.0.0.1 on which nobody listens. No other caller,
// in this process or another, gets it before this process ends.
func Port() (int, error) {
	dir := filepath.Join(os.TempDir(), "understudy-ports-"+strconv.Itoa(os.Getuid()))
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	locks.Lock()
	defer locks.Unlock()
	if locks.files == nil {
		locks.files = map[int]*os.File{}
	}
	var last error
	for range 1000 {
		port := lowest + rand.IntN(highest-lowest)
		if locks.files[port] != nil {
			continue
		}
		f, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(port)), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return 0, fmt.Errorf("find a free port: %w", err)
		}
		if last = take(f, port); last == nil {
			locks.files[port] = f
			return port, nil
		}
		f.Close()
	}
	return 0, fmt.Errorf("find a free port between %d and %d: %w", lowest, highest, last)
}

// take locks the port's file and sees that nobody listens.
func take(f *os.File, port int) error {
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return err
	}
	l, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return err
	}
	return l.Close()
}

// Address is Port as "127.0.0.1:port".
func Address() (string, error) {
	port, err := Port()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), err
}

// For is Address for a test or benchmark (testing.TB), which it ends on an error.
func For(tb interface {
	Helper()
	Fatal(args ...any)
}) string {
	tb.Helper()
	a, err := Address()
	if err != nil {
		tb.Fatal(err)
	}
	return a
}
