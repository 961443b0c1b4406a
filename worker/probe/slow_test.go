package probe

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"understudy/worker/detect"
)

// slow answers as smtp does, but takes its time before the banner and before
// each reply to RCPT.
func slow(banner, rcpt time.Duration) func(c net.Conn) {
	return func(c net.Conn) {
		<-time.After(banner)
		fmt.Fprint(c, "220 mx.test ESMTP\r\n")
		lines := bufio.NewScanner(c)
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "RCPT") {
				<-time.After(rcpt)
			}
			fmt.Fprint(c, "250 ok\r\n")
		}
	}
}

// TestSlowOnPurpose: a server that lets clients wait longer than a connection
// may take gets mail, and so is healthy; a silent one is not.
func TestSlowOnPurpose(t *testing.T) {
	t.Parallel()
	p := &Prober{Helo: "gw.test", Timeout: 500 * time.Millisecond}
	for name, c := range map[string]struct {
		banner, rcpt time.Duration
		recipients   []string
		class        detect.Class
		detail       string
	}{
		"greets late":        {700 * time.Millisecond, 0, nil, detect.Healthy, ""},
		"slow at recipients": {0, 250 * time.Millisecond, []string{"a@example.test", "b@example.test", "c@example.test"}, detect.Healthy, ""},
		"never greets":       {3 * time.Second, 0, nil, detect.Timeout, "banner: no answer within 2s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := server(t, slow(c.banner, c.rcpt))
			if got := p.Probe(t.Context(), address, c.recipients...); got.Class != c.class || got.Detail != c.detail {
				t.Errorf("%+v, want %s %q", got, c.class, c.detail)
			}
			if c.class != detect.Healthy {
				return
			}
			if replies, err := p.Ask(t.Context(), []string{address}, "a@example.test"); err != nil || len(replies) != 1 {
				t.Errorf("asked: %v, %v", replies, err)
			}
		})
	}
}

// TestSwallowsPackets: a connection that does not come is given no longer
// than its own timeout.
func TestSwallowsPackets(t *testing.T) {
	t.Parallel()
	address := swallow(t)
	p := &Prober{Helo: "gw.test", Timeout: 500 * time.Millisecond}
	begin := time.Now()
	got := p.Probe(t.Context(), address)
	if got.Class != detect.Timeout || got.Detail != "connect: no answer within 500ms" {
		t.Errorf("%+v", got)
	}
	if took := time.Since(begin); took >= patience*p.Timeout {
		t.Errorf("took %v", took)
	}
}

// swallow listens and accepts nothing: once its backlog is full the kernel
// drops each SYN, as a firewall does (listen(2), tcp_abort_on_overflow = 0).
func swallow(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(name.(*syscall.SockaddrInet4).Port))
	for range 8 {
		c, err := net.DialTimeout("tcp", address, 200*time.Millisecond)
		if err != nil { // full
			return address
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("a listener that accepts nothing has no end of backlog")
	return ""
}
