// Package luaserver answers the Lua passdb and userdb that run inside Dovecot
// (understudy-auth.lua in the Ansible role "dovecot").
//
// The protocol is our own: lines of TAB-separated fields, escaped as in
// Dovecot (see package tabline), one reply to one request, in order.
//
//	A svc rip user pw   log in: svc is Dovecot's protocol name, rip the client's address or empty
//	P user              passdb lookup without a password (a master user logs in as user)
//	U user              userdb lookup (LMTP, doveadm)
//	L                   all mailboxes: "u <user>" lines, then END
//
//	OK k=v ...          user= (canonical), uid=, gid=, home=, quota=<n>B
//	UNKNOWN             no such mailbox: certain, Dovecot refuses mail with 550
//	BAD                 wrong password, or the mailbox may not log in
//	LOCKED reason       too many wrong passwords; the reason is shown to the user
//	TEMP why            not known now; Dovecot says [UNAVAILABLE], LMTP 451
//
// When the directory is not loaded the answer is TEMP, never UNKNOWN. When
// this service is down Dovecot's script answers the same by itself.
package luaserver

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"understudy/dovecot-auth/account"
	"understudy/dovecot-auth/tabline"
)

// idleTimeout frees connections of workers that Dovecot keeps without work.
// The script opens a new one when it finds its connection closed.
const idleTimeout = 10 * time.Minute

// Accounts is what the server asks.
type Accounts interface {
	Login(ctx context.Context, t account.Attempt) account.Answer
	Lookup(user string) account.Answer
	List(yield func(user string) error) error
}

// Server answers connections.
type Server struct {
	Accounts Accounts
	Log      *slog.Logger
}

// Handle answers one connection until it closes or ctx ends.
func (s *Server) Handle(ctx context.Context, c net.Conn) {
	conn := tabline.NewConn(ctx, c, idleTimeout)
	defer conn.Release()
	for {
		line, err := conn.ReadLine()
		if errors.Is(err, tabline.ErrTooLong) {
			conn.Write(tooLong(line)) //nolint:errcheck // the connection ends anyway
			return
		}
		if err != nil {
			return
		}
		if err := s.reply(ctx, conn, line); err != nil {
			s.Log.Debug("reply to Dovecot", "error", err)
			return
		}
	}
}

// tooLong answers a line of which only the beginning was read. No password
// that was ever set is so long, and no name.
func tooLong(line string) string {
	if strings.HasPrefix(line, "A\t") {
		return "BAD\n"
	}
	return "TEMP\trequest is too long\n"
}

func (s *Server) reply(ctx context.Context, conn *tabline.Conn, line string) error {
	f := tabline.Split(line)
	switch {
	case f[0] == "A" && len(f) == 5:
		ip, _ := netip.ParseAddr(f[2]) // unknown to Dovecot in a "doveadm auth test"
		// A verification under way is finished even if the service is ending.
		return conn.Write(format(s.Accounts.Login(context.WithoutCancel(ctx),
			account.Attempt{Service: f[1], IP: ip, User: f[3], Password: f[4]})))
	case (f[0] == "P" || f[0] == "U") && len(f) == 2:
		return conn.Write(format(s.Accounts.Lookup(f[1])))
	case f[0] == "L" && len(f) == 1:
		return s.list(conn)
	}
	return conn.Write("TEMP\tunknown request\n")
}

func format(a account.Answer) string {
	switch a.Result {
	case account.OK:
		x := a.Account
		return tabline.Join("OK", "user="+x.User, "uid="+strconv.Itoa(x.UID), "gid="+strconv.Itoa(x.GID),
			"home="+x.Home, "quota="+strconv.FormatInt(x.QuotaBytes, 10)+"B")
	case account.Unknown:
		return "UNKNOWN\n"
	case account.Bad:
		return "BAD\n"
	case account.Locked:
		return tabline.Join("LOCKED", a.Reason)
	}
	return tabline.Join("TEMP", a.Reason)
}

// list writes in portions, so that a large directory takes little memory. An
// error in the middle ends the connection: the script must not take a part
// for the whole.
func (s *Server) list(conn *tabline.Conn) error {
	var b strings.Builder
	wrote := false
	err := s.Accounts.List(func(user string) error {
		b.WriteString("u " + tabline.Escape(user) + "\n")
		if b.Len() < 32<<10 {
			return nil
		}
		wrote = true
		err := conn.Write(b.String())
		b.Reset()
		return err
	})
	if err != nil && wrote {
		return err
	}
	if err != nil {
		return conn.Write(tabline.Join("TEMP", err.Error()))
	}
	return conn.Write(b.String() + "END\n")
}
