// Package listen opens the sockets of the line-protocol services and runs
// their connections: bounded in number, a panic ending one connection only,
// and closed in an orderly way at the end.
package listen

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Open listens on "unix:/path" or "inet:host:port". A unix socket left by a
// dead process is replaced, one that answers is not; it gets mode 0660 and
// the group of its (setgid) directory.
func Open(address string) (net.Listener, error) {
	kind, where, ok := strings.Cut(address, ":")
	switch {
	case ok && kind == "inet":
		l, err := net.Listen("tcp", where)
		if err != nil {
			return nil, fmt.Errorf("listen on %s: %w", address, err)
		}
		return l, nil
	case ok && kind == "unix":
		return openUnix(where)
	}
	return nil, fmt.Errorf("listen on %q: want unix:/path or inet:host:port", address)
}

func openUnix(path string) (net.Listener, error) {
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return nil, fmt.Errorf("listen on unix:%s: another process answers there", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listen on unix:%s: %w", path, err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on unix:%s: %w", path, err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		l.Close()
		return nil, fmt.Errorf("listen on unix:%s: %w", path, err)
	}
	return l, nil
}

// Server runs Handle for each connection of a listener.
type Server struct {
	Name   string // for logs and metrics
	Max    int    // connections at once; further ones wait in the kernel's backlog
	Handle func(ctx context.Context, c net.Conn)
	Log    *slog.Logger

	Open   prometheus.Gauge   // may be nil
	Panics prometheus.Counter // may be nil
}

// Serve accepts until ctx ends; then it stops accepting, and returns when the
// connections have ended: Handle must end soon after ctx does. It returns nil
// after an orderly end.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	defer l.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, s.Max)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		c, err := l.Accept()
		if err != nil {
			<-slots
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("accept on %s: %w", s.Name, err)
			}
			s.Log.Error("accept; trying again", "listener", s.Name, "error", err) // out of descriptors, most likely
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		wg.Go(func() {
			defer func() { <-slots }()
			s.run(ctx, c)
		})
	}
}

func (s *Server) run(ctx context.Context, c net.Conn) {
	if s.Open != nil {
		s.Open.Inc()
		defer s.Open.Dec()
	}
	defer c.Close()
	defer func() {
		if p := recover(); p != nil {
			s.Log.Error("panic in a connection; it is closed", "listener", s.Name, "panic", p, "stack", string(debug.Stack()))
			if s.Panics != nil {
				s.Panics.Inc()
			}
		}
	}()
	s.Handle(ctx, c)
}
