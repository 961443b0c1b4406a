package stack

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// stopSignal asks a component for an orderly end. PostgreSQL's SIGINT is its
// fast shutdown: clients are disconnected.
func stopSignal(c Component) syscall.Signal {
	if c == Postgres {
		return syscall.SIGINT
	}
	return syscall.SIGTERM
}

// command says how a component is run in the foreground.
func (s *Stack) command(c Component) ([]string, *account, error) {
	l := &s.layout
	switch c {
	case Postgres:
		a, err := lookupAccount("postgres")
		if err != nil {
			return nil, nil, err
		}
		argv, err := s.postgresCommand()
		return argv, &a, err
	case Postfix, Primary, Internet:
		return s.masterCommand(c), nil, nil
	case Dovecot:
		return []string{"/usr/sbin/dovecot", "-F", "-c", l.path("dovecot", "etc", "dovecot.conf")}, nil, nil
	case Admin:
		return []string{l.Bin + "/" + binary(c), "-config", s.configFile(c), "serve"}, nil, nil
	case Milter, Policyd, DovecotAuth, Worker:
		return []string{l.Bin + "/" + binary(c), "-config", s.configFile(c)}, nil, nil
	}
	return nil, nil, fmt.Errorf("there is no component %q", c)
}

// check is one sign that a component does its work.
type check func(context.Context) error

// checks are the signs of each component.
func (s *Stack) checks(c Component) []check {
	l := &s.layout
	switch c {
	case Postgres:
		return []check{s.postgresAnswers}
	case Postfix:
		signs := []check{banner(l.address("smtp"), "220 "), banner(l.address("reentry"), "220 "), banner(l.address("reentry-quiet"), "220 ")}
		if l.has(DovecotAuth) { // without it a submission smtpd cannot start
			signs = append(signs, banner(l.address("submission"), "220 "))
		}
		return signs
	case Primary, Internet:
		return []check{banner(l.address(string(c)), "220 ")}
	case Dovecot:
		return []check{banner(l.address("imap"), "* OK "), banner(l.address("pop3"), "+OK "), dials("unix", l.path("postfix", "queue", "private", "dovecot-lmtp"))}
	case Admin:
		return []check{healthy(l.address("admin-metrics")), dials("tcp", l.address("portal"))}
	}
	return []check{healthy(l.address(string(c) + "-metrics"))}
}

func dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: 10 * time.Second}
	return d.DialContext(ctx, network, address)
}

func dials(network, address string) check {
	return func(ctx context.Context) error {
		c, err := dial(ctx, network, address)
		if err != nil {
			return err
		}
		return c.Close()
	}
}

// banner expects a server's greeting.
func banner(address, prefix string) check {
	return func(ctx context.Context) error {
		c, err := dial(ctx, "tcp", address)
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			return err
		}
		line, err := bufio.NewReader(io.LimitReader(c, 1024)).ReadString('\n')
		if err != nil {
			return fmt.Errorf("greeting of %s: %w", address, err)
		}
		if !strings.HasPrefix(line, prefix) {
			return fmt.Errorf("greeting of %s: %q", address, line)
		}
		return nil
	}
}

// healthy expects 200 from a service's health endpoint.
func healthy(address string) check {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/healthz", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("health: %s: %s", resp.Status, strings.TrimSpace(string(body)))
		}
		return nil
	}
}
