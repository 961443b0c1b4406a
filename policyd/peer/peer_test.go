package peer

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

func listen(t *testing.T, network, at string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func addrPort(a net.Addr) netip.AddrPort { return a.(*net.TCPAddr).AddrPort() }

func TestUser(t *testing.T) {
	t.Parallel()
	for network, at := range map[string]string{"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0"} {
		l := listen(t, network, at)
		c, err := net.Dial(network, l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		client, server := addrPort(c.LocalAddr()), addrPort(c.RemoteAddr())
		if uid, err := User(client, server); err != nil || int(uid) != os.Getuid() {
			t.Errorf("%s: user %d, %v; want %d", network, uid, err, os.Getuid())
		}
		if uid, err := User(netip.AddrPortFrom(client.Addr(), client.Port()^1), netip.AddrPortFrom(server.Addr(), 1)); !errors.Is(err, ErrNone) {
			t.Errorf("%s: no connection has user %d, %v", network, uid, err)
		}
		c.Close()
	}
}

// TestAnotherUser: a process of another user connects.
func TestAnotherUser(t *testing.T) {
	t.Parallel()
	l := listen(t, "tcp4", "127.0.0.1:0")
	_, port, _ := strings.Cut(l.Addr().String(), ":")
	cmd := exec.CommandContext(t.Context(), "/bin/bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/"+port+"; read -u 3")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if uid, err := User(addrPort(c.RemoteAddr()), addrPort(c.LocalAddr())); err != nil || uid != 65534 {
		t.Errorf("user %d, %v; want 65534", uid, err)
	}
	c.Close()
	cmd.Wait() //nolint:errcheck // its read ends
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("\x10\x00\x00\x00\x14\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		parse(b) //nolint:errcheck // it must not panic
	})
}
