// Package saslserver speaks the server side of Dovecot's authentication
// protocol, version 1.2, to Postfix's smtpd (smtpd_sasl_type = dovecot), with
// the mechanisms PLAIN and LOGIN.
//
// Protocol: https://doc.dovecot.org/2.3/developer_manual/design/auth_protocol/
//
// Postfix ignores the "temp" flag of a FAIL and tells the client 535, which
// makes mail programs ask for another password. So whenever an answer is not
// known (directory not loaded, too many verifications) the connection is
// closed instead: Postfix then says 454, and connects again for the next try.
package saslserver

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"understudy/dovecot-auth/account"
	"understudy/dovecot-auth/tabline"
)

const (
	// idleTimeout is longer than the 300 s for which an smtpd keeps an idle
	// connection: the side that waits for clients should be the one to close.
	idleTimeout = 15 * time.Minute
	// pendingMax and pendingLife bound unfinished exchanges: Postfix does not
	// pass on a client's cancellation ("*"), it just never continues.
	pendingMax  = 16
	pendingLife = 150 * time.Second
)

// Accounts is what the server asks.
type Accounts interface {
	Login(ctx context.Context, t account.Attempt) account.Answer
}

// Server answers connections.
type Server struct {
	Accounts Accounts
	Log      *slog.Logger
	Now      func() time.Time // the clock for pending exchanges

	connections atomic.Uint32 // gives each its CUID
}

// errTrouble ends a connection whose request cannot be answered now.
var errTrouble = errors.New("no answer is known; closing, so that the client is told to try again")

// errProtocol ends a connection that does not speak the protocol.
var errProtocol = errors.New("not the Dovecot authentication protocol")

// What a mechanism is told; the client is told by FAIL.
var (
	errIdentity = errors.New("acting as another user is not possible")
	errRefused  = errors.New("login is refused")
)

// Handle answers one connection until it closes or ctx ends.
func (s *Server) Handle(ctx context.Context, c net.Conn) {
	conn := tabline.NewConn(ctx, c, idleTimeout)
	defer conn.Release()
	// A verification under way is finished even if the service is ending.
	x := &session{server: s, pending: map[uint32]*exchange{}, ctx: context.WithoutCancel(ctx)}
	if err := conn.Write(s.greeting()); err != nil {
		return
	}
	for {
		line, err := conn.ReadLine()
		if err != nil {
			if errors.Is(err, tabline.ErrTooLong) {
				s.Log.Warn("SASL connection closed", "error", err)
			}
			return
		}
		reply, err := x.command(line)
		if err != nil {
			s.Log.Warn("SASL connection closed", "error", err)
			return
		}
		if reply != "" && conn.Write(reply) != nil {
			return // the client is gone
		}
	}
}

// greeting is our half of the handshake. It is sent at once: Postfix waits
// for DONE before its first request.
func (s *Server) greeting() string {
	var cookie [16]byte
	rand.Read(cookie[:]) // never fails, see its documentation
	return fmt.Sprintf("VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tLOGIN\tplaintext\nSPID\t%d\nCUID\t%d\nCOOKIE\t%s\nDONE\n",
		os.Getpid(), s.connections.Add(1), hex.EncodeToString(cookie[:]))
}

// fail is a FAIL reply. The reason reaches the client in Postfix's 535.
func fail(id, user, reason string) string {
	fields := []string{"FAIL", id}
	if user != "" {
		fields = append(fields, "user="+user)
	}
	if reason != "" {
		fields = append(fields, "reason="+reason)
	}
	return tabline.Join(fields...)
}

// cutParameter returns the value of key=value, if parameter is that.
func cutParameter(parameter, key string) (string, bool) {
	k, v, ok := strings.Cut(parameter, "=")
	return v, ok && k == key
}
