// Package peer tells which user of this machine holds the other end of a TCP
// connection, by sock_diag(7), exactly and without walking the kernel's table.
//
// Where the kernel does not answer (no tcp_diag module, a sandbox without
// netlink) that is an error: the caller decides what to do without knowing.
package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNone means that there is no such connection.
var ErrNone = errors.New("no such connection")

// Layouts of linux/inet_diag.h.
const (
	sockDiagByFamily = 20 // SOCK_DIAG_BY_FAMILY
	requestBytes     = unix.SizeofNlMsghdr + 56
	socketIDAt       = unix.SizeofNlMsghdr + 8 // in inet_diag_req_v2
	uidAt            = unix.SizeofNlMsghdr + 4 + 48 + 3*4
	answerBytes      = uidAt + 8
	timeout          = time.Second
)

// User returns the user id of the process that connected from client to
// server, both addresses of this machine.
func User(client, server netip.AddrPort) (uint32, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_INET_DIAG)
	if err != nil {
		return 0, fmt.Errorf("ask for the owner of a connection: %w", err)
	}
	defer unix.Close(fd)
	wait := unix.NsecToTimeval(timeout.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		return 0, fmt.Errorf("ask for the owner of a connection: %w", err)
	}
	if err := unix.Sendto(fd, request(client, server), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, fmt.Errorf("ask for the owner of a connection: %w", err)
	}
	buf := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, buf, 0)
	if err != nil {
		return 0, fmt.Errorf("ask for the owner of a connection: %w", err)
	}
	return parse(buf[:n])
}

// request is nlmsghdr and inet_diag_req_v2.
func request(client, server netip.AddrPort) []byte {
	b := make([]byte, requestBytes)
	ne := binary.NativeEndian
	ne.PutUint32(b, requestBytes)
	ne.PutUint16(b[4:], sockDiagByFamily)
	ne.PutUint16(b[6:], unix.NLM_F_REQUEST)
	q := b[unix.SizeofNlMsghdr:]
	q[0], q[1] = unix.AF_INET, unix.IPPROTO_TCP
	if client.Addr().Is6() {
		q[0] = unix.AF_INET6
	}
	ne.PutUint32(q[4:], ^uint32(0)) // any state
	id := b[socketIDAt:]
	binary.BigEndian.PutUint16(id, client.Port())
	binary.BigEndian.PutUint16(id[2:], server.Port())
	copy(id[4:20], client.Addr().AsSlice())
	copy(id[20:36], server.Addr().AsSlice())
	ne.PutUint32(id[40:], ^uint32(0)) // no cookie
	ne.PutUint32(id[44:], ^uint32(0))
	return b
}

// parse reads nlmsghdr and inet_diag_msg, or an nlmsgerr.
func parse(b []byte) (uint32, error) {
	ne := binary.NativeEndian
	if len(b) < unix.SizeofNlMsghdr+4 {
		return 0, errors.New("owner of a connection: the kernel's answer is short")
	}
	if ne.Uint16(b[4:]) == unix.NLMSG_ERROR {
		code := unix.Errno(-int32(ne.Uint32(b[unix.SizeofNlMsghdr:])))
		if code == unix.ENOENT {
			return 0, ErrNone
		}
		return 0, fmt.Errorf("owner of a connection: %w", code)
	}
	if ne.Uint16(b[4:]) != sockDiagByFamily || len(b) < answerBytes {
		return 0, errors.New("owner of a connection: the kernel's answer is another")
	}
	return ne.Uint32(b[uidAt:]), nil
}
