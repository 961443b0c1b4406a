package rig

import (
	"errors"
	"io"
	"net"
	"sync"

	"understudy/internal/blackhole"
	"understudy/internal/freeport"
)

// Front stands at a primary's address: it passes connections on to a server,
// refuses them, or lets their packets vanish.
type Front struct {
	Address string

	server   string
	listener net.Listener    // while it passes connections on
	hole     *blackhole.Hole // while packets vanish
}

// NewFront passes connections on to the server.
func NewFront(server string) (*Front, error) {
	f := &Front{server: server}
	var err error
	if f.Address, err = freeport.Address(); err != nil {
		return nil, err
	}
	return f, f.Pass()
}

// Pass passes connections on.
func (f *Front) Pass() (err error) {
	if err := f.Refuse(); err != nil {
		return err
	}
	if f.listener, err = net.Listen("tcp", f.Address); err != nil {
		return err
	}
	go f.serve(f.listener)
	return nil
}

// Refuse refuses connections; those that are open go on.
func (f *Front) Refuse() (err error) {
	if f.listener != nil {
		err = f.listener.Close()
		f.listener = nil
	}
	if f.hole != nil {
		err = errors.Join(err, f.hole.Close())
		f.hole = nil
	}
	return err
}

// Vanish lets packets vanish.
func (f *Front) Vanish() (err error) {
	if err := f.Refuse(); err != nil {
		return err
	}
	f.hole, err = blackhole.Open(f.Address)
	return err
}

func (f *Front) serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go f.pass(c)
	}
}

func (f *Front) pass(c net.Conn) {
	defer c.Close()
	s, err := net.Dial("tcp", f.server)
	if err != nil {
		return
	}
	defer s.Close()
	var wg sync.WaitGroup
	wg.Go(func() {
		io.Copy(s, c)                 //nolint:errcheck // either end may close
		s.(*net.TCPConn).CloseWrite() //nolint:errcheck
	})
	io.Copy(c, s) //nolint:errcheck
	c.Close()
	wg.Wait()
}
