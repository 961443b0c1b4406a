package stack

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"understudy/internal/freeport"
)

// portNames are the names of a stack's ports, as Options.Ports takes them.
var portNames = []string{"smtp", "submission", "reentry", "reentry-quiet", "imap", "imaps", "pop3", "doveadm", "portal", "postgres",
	"primary", "internet", "milter-metrics", "policyd-metrics", "dovecot-auth-metrics", "worker-metrics", "admin-metrics"}

// PortNames lists the ports of a stack.
func PortNames() []string { return slices.Clone(portNames) }

// PortVariable is the environment variable by which "make up" fixes a port.
func PortVariable(name string) string {
	return "PORT_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// choosePorts gives every name a port of 127.0.0.1 that nobody listens on.
func choosePorts(fixed map[string]int) (map[string]int, error) {
	var held []net.Listener // until all are chosen, so that no two are the same
	defer func() {
		for _, l := range held {
			l.Close()
		}
	}()
	for name := range fixed {
		if !slices.Contains(portNames, name) {
			return nil, fmt.Errorf("choose ports: there is no port %q, only %s", name, strings.Join(portNames, ", "))
		}
	}
	ports := map[string]int{}
	for _, name := range portNames {
		p, ok := fixed[name]
		if !ok {
			continue
		}
		l, err := listenOn(p)
		if errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("port %d for %s is in use: choose another with %s=, or leave it out for a free one",
				p, name, PortVariable(name))
		} else if err != nil {
			return nil, fmt.Errorf("choose port for %s: %w", name, err)
		}
		ports[name], held = p, append(held, l)
	}
	for _, name := range portNames {
		if _, ok := ports[name]; ok {
			continue
		}
		p, err := freeport.Port()
		if err != nil {
			return nil, fmt.Errorf("choose port for %s: %w", name, err)
		}
		ports[name] = p
	}
	return ports, nil
}

func listenOn(port int) (net.Listener, error) {
	return net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
}
