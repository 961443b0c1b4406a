// Package blackhole makes loopback addresses at which packets vanish, as
// behind a firewall that drops them: for tests and benchmarks of what waits.
package blackhole

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
	"time"
)

// Hole is an address at which connecting is neither accepted nor refused: its
// socket has a full backlog and nobody accepts, so the kernel drops every
// further SYN (listen(2), tcp_abort_on_overflow = 0).
type Hole struct {
	Address string

	socket int
	filled []net.Conn
}

// Open opens one at "127.0.0.1:port"; port 0 takes a free one.
func Open(address string) (*Hole, error) {
	at, err := net.ResolveTCPAddr("tcp4", address)
	if err != nil {
		return nil, err
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a socket: %w", err)
	}
	h := &Hole{socket: fd}
	if err := h.listen(at); err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", address, err), h.Close())
	}
	for range 10 {
		c, err := net.DialTimeout("tcp", h.Address, 500*time.Millisecond)
		if err != nil { // full
			return h, nil
		}
		h.filled = append(h.filled, c)
	}
	return nil, errors.Join(errors.New("the kernel goes on accepting connections beyond the backlog"), h.Close())
}

func (h *Hole) listen(at *net.TCPAddr) error {
	if err := syscall.SetsockoptInt(h.socket, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return err
	}
	ip := at.IP.To4()
	if err := syscall.Bind(h.socket, &syscall.SockaddrInet4{Addr: [4]byte(ip), Port: at.Port}); err != nil {
		return err
	}
	if err := syscall.Listen(h.socket, 0); err != nil {
		return err
	}
	name, err := syscall.Getsockname(h.socket)
	if err != nil {
		return err
	}
	h.Address = net.JoinHostPort(ip.String(), strconv.Itoa(name.(*syscall.SockaddrInet4).Port))
	return nil
}

// Close closes the socket: connections are refused from now on.
func (h *Hole) Close() error {
	for _, c := range h.filled {
		c.Close()
	}
	return syscall.Close(h.socket)
}

// For is the address of a hole that is there until the test (testing.TB) ends.
func For(tb interface {
	Helper()
	Fatal(args ...any)
	Cleanup(func())
}) string {
	tb.Helper()
	h, err := Open("127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { h.Close() })
	return h.Address
}
