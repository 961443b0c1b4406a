package policy

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os/user"
	"slices"
	"strconv"
	"sync"

	"understudy/policyd/peer"
)

// Gate keeps other users of this machine out of the re-entry listener: what
// comes in there goes to the portal without being archived. Root may always.
// The zero Gate lets everybody in, as does one that cannot find out who comes.
type Gate struct {
	users []uint32
	warn  sync.Once
}

// NewGate lets in the users of these names; without names everybody.
func NewGate(names []string) (*Gate, error) {
	g := &Gate{}
	for _, name := range names {
		u, err := user.Lookup(name)
		if err != nil {
			return nil, fmt.Errorf("user %q who may use re-entry: %w", name, err)
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("user %q who may use re-entry: %w", name, err)
		}
		g.users = append(g.users, uint32(uid))
	}
	return g, nil
}

// stranger is put off, not refused: should it be our own mail, it waits.
var stranger = Decision{Action: "450 4.7.1 Only this machine's mail server may come in here", Label: "stranger"}

// admits says whether the client of a request at re-entry may come in.
func (g *Gate) admits(req Request, log *slog.Logger) bool {
	if g == nil || len(g.users) == 0 {
		return true
	}
	client, err1 := netip.ParseAddrPort(join(req.ClientAddress, req.ClientPort))
	server, err2 := netip.ParseAddrPort(join(req.ServerAddress, req.ServerPort))
	if err1 != nil || err2 != nil {
		return false
	}
	uid, err := peer.User(client, server)
	if errors.Is(err, peer.ErrNone) {
		return false
	}
	if err != nil {
		g.warn.Do(func() {
			log.Warn("re-entry is open to all users of this machine: the kernel does not tell who comes", "error", err)
		})
		return true
	}
	if uid != 0 && !slices.Contains(g.users, uid) {
		log.Warn("another user of this machine tried to use re-entry", "uid", uid)
		return false
	}
	return true
}

func join(address, port string) string {
	ip, err := netip.ParseAddr(address)
	if err == nil && ip.Is6() {
		address = "[" + address + "]"
	}
	return address + ":" + port
}
