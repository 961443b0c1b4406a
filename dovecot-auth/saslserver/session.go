package saslserver

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/emersion/go-sasl"

	"understudy/dovecot-auth/account"
	"understudy/dovecot-auth/tabline"
)

// session is the state of one connection.
type session struct {
	server  *Server
	ctx     context.Context // for verifications, as long as the connection's handler runs
	version bool            // the client has sent its VERSION
	pending map[uint32]*exchange
}

// exchange is one request, from AUTH to OK or FAIL.
type exchange struct {
	id      uint32
	begun   time.Time
	attempt account.Attempt
	sasl    sasl.Server
	answer  *account.Answer // nil until the mechanism has user and password
}

// command answers one line. An error ends the connection; an empty reply is
// none.
func (x *session) command(line string) (string, error) {
	name, rest, _ := strings.Cut(line, "\t")
	switch name {
	case "VERSION":
		major, _, _ := strings.Cut(rest, "\t")
		if major != "1" {
			return "", fmt.Errorf("%w: version %.20q", errProtocol, rest)
		}
		x.version = true
		return "", nil
	case "AUTH", "CONT", "CANCEL":
		if !x.version {
			return "", fmt.Errorf("%w: %s before VERSION", errProtocol, name)
		}
		number, arguments, _ := strings.Cut(rest, "\t")
		id, err := strconv.ParseUint(number, 10, 32)
		if err != nil {
			return "", fmt.Errorf("%w: request id %.20q", errProtocol, number)
		}
		return x.request(name, uint32(id), arguments)
	}
	return "", nil // CPID, and what later versions of the protocol may bring
}

func (x *session) request(name string, id uint32, arguments string) (string, error) {
	x.expire()
	e := x.pending[id]
	delete(x.pending, id)
	switch name {
	case "CANCEL":
		return "", nil
	case "CONT":
		if e == nil {
			return fail(strconv.FormatUint(uint64(id), 10), "", "The exchange took too long"), nil
		}
		return x.next(e, arguments, true)
	}
	mechanism, parameters, _ := strings.Cut(arguments, "\t")
	e = &exchange{id: id, begun: x.server.Now()}
	response, given := e.read(parameters)
	switch mechanism {
	case sasl.Plain:
		e.sasl = sasl.NewPlainServer(func(identity, user, pw string) error { return x.login(e, identity, user, pw) })
	case sasl.Login:
		e.sasl = newLoginServer(func(user, pw string) error { return x.login(e, "", user, pw) })
	default:
		return fail(e.number(), "", "Unsupported authentication mechanism"), nil
	}
	return x.next(e, response, given)
}

// read takes the parameters of AUTH. resp, the initial response, is the last
// one, and is Base64: given tells an empty one from none.
func (e *exchange) read(parameters string) (response string, given bool) {
	for p := range strings.SplitSeq(parameters, "\t") {
		if v, ok := cutParameter(p, "resp"); ok {
			return v, true
		}
		if v, ok := cutParameter(p, "service"); ok {
			e.attempt.Service = tabline.Unescape(v)
		}
		if v, ok := cutParameter(p, "rip"); ok {
			e.attempt.IP, _ = netip.ParseAddr(tabline.Unescape(v))
		}
	}
	return "", false
}

// next gives the mechanism what the client sent. What is not Base64 fails as
// a wrong password would: Postfix cuts lines at 2048 octets, so a client that
// sends nonsense of any length gets a clean 535.
func (x *session) next(e *exchange, response string, given bool) (string, error) {
	var data []byte
	if given {
		if response == "=" { // RFC 4954 section 4: an empty initial response
			response = ""
		}
		decoded, err := base64.StdEncoding.DecodeString(response)
		if err != nil {
			return fail(e.number(), "", "Invalid base64 data"), nil
		}
		data = decoded // if empty, still not nil
	}
	challenge, done, err := e.sasl.Next(data)
	switch {
	case e.answer != nil:
		return x.conclude(e)
	case err != nil || done:
		return fail(e.number(), "", "Invalid authentication data"), nil
	}
	x.keep(e)
	return tabline.Join("CONT", e.number(), base64.StdEncoding.EncodeToString(challenge)), nil
}

// login verifies what the mechanism found. Acting as another user is not
// possible: the authorisation identity (RFC 4616) must be empty or the same.
func (x *session) login(e *exchange, identity, user, secret string) error {
	e.attempt.User, e.attempt.Password, e.attempt.Sending = user, secret, true
	if identity != "" && identity != user {
		return errIdentity
	}
	answer := x.server.Accounts.Login(x.ctx, e.attempt)
	e.attempt.Password, e.answer = "", &answer
	if answer.Result != account.OK {
		return errRefused
	}
	return nil
}

func (x *session) conclude(e *exchange) (string, error) {
	switch a := e.answer; a.Result {
	case account.OK:
		return tabline.Join("OK", e.number(), "user="+a.Account.User), nil
	case account.Temporary:
		return "", fmt.Errorf("%w: %s", errTrouble, a.Reason)
	default:
		return fail(e.number(), e.attempt.User, a.Reason), nil
	}
}

// keep remembers an exchange that awaits CONT; the oldest gives way.
func (x *session) keep(e *exchange) {
	for len(x.pending) >= pendingMax {
		var oldest *exchange
		for _, p := range x.pending {
			if oldest == nil || p.begun.Before(oldest.begun) {
				oldest = p
			}
		}
		delete(x.pending, oldest.id)
	}
	x.pending[e.id] = e
}

func (x *session) expire() {
	now := x.server.Now()
	for id, e := range x.pending {
		if now.Sub(e.begun) > pendingLife {
			delete(x.pending, id)
		}
	}
}

func (e *exchange) number() string { return strconv.FormatUint(uint64(e.id), 10) }
