package rig

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"
)

// Swallow is an address at which packets vanish: connecting to it is neither
// accepted nor refused. Its listening socket has a full backlog and nobody
// accepts, so the kernel drops every further SYN.
type Swallow struct {
	socket *os.File
	filled []net.Conn
}

// NewSwallow opens one at a loopback address ("127.0.0.1:port").
func NewSwallow(address string) (*Swallow, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return nil, err
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a socket: %w", err)
	}
	s := &Swallow{socket: os.NewFile(uintptr(fd), "swallow")}
	err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	if err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: n})
	}
	if err == nil {
		err = syscall.Listen(fd, 0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", address, err), s.Close())
	}
	for range 10 {
		c, err := net.DialTimeout("tcp", address, 200*time.Millisecond)
		if err != nil {
			return s, nil
		}
		s.filled = append(s.filled, c)
	}
	return nil, errors.Join(errors.New("the kernel goes on accepting connections beyond the backlog"), s.Close())
}

// Close closes the socket: connections are refused from now on.
func (s *Swallow) Close() error {
	for _, c := range s.filled {
		c.Close()
	}
	return s.socket.Close()
}
