package probe

import (
	"errors"
	"fmt"
	"net/textproto"
	"regexp"
	"slices"

	"understudy/worker/detect"
)

// maxRecipients bounds what one probe names.
const maxRecipients = 3

// recipients names recipients and returns the replies, each a refusal or nil.
func (s *session) recipients(addresses []string) ([]*textproto.Error, error) {
	var out []*textproto.Error
	for _, a := range addresses {
		_, err := s.command("RCPT TO:<%s>", a)
		var reply *textproto.Error
		if err != nil && (!errors.As(err, &reply) || reply.Code < 400) {
			return nil, err
		}
		out = append(out, reply)
		if reply != nil && reply.Code == 421 { // it hangs up (RFC 5321 section 3.8)
			break
		}
	}
	return out, nil
}

var enhanced = regexp.MustCompile(`^([45])\.(\d{1,3})\.(\d{1,3})\b`)

// serverWide reports whether a refusal of a recipient is about the server
// (RFC 3463: X.3.x, but not what is about a message), and whether it names no
// reason at all.
func serverWide(reply *textproto.Error) (certain, perhaps bool) {
	m := enhanced.FindStringSubmatch(reply.Msg)
	switch {
	case reply.Code == 421:
		return true, true
	case m == nil:
		perhaps = slices.Contains([]int{452, 552, 554}, reply.Code)
		return false, perhaps
	}
	certain = m[2] == "3" && m[3] != "3" && m[3] != "4"
	return certain, certain
}

// judge says what the answers to recipients that exist mean. Refusals without
// a reason count against the server when two recipients got nothing else.
func judge(replies []*textproto.Error) (detect.Class, string) {
	certain, perhaps, deferred, refused := 0, 0, 0, 0
	var last *textproto.Error
	for _, r := range replies {
		if r == nil {
			continue
		}
		last = r
		if r.Code < 500 {
			deferred++
		} else {
			refused++
		}
		c, p := serverWide(r)
		if c {
			certain++
		}
		if p {
			perhaps++
		}
	}
	n := len(replies)
	if last == nil {
		return detect.Healthy, ""
	}
	detail := printable(fmt.Sprintf("RCPT: %d %s", last.Code, last.Msg))
	switch server := certain == n || perhaps == n && n > 1; {
	case server && deferred > 0:
		return detect.ServerTempfail, detail
	case server:
		return detect.ServerReject, detail
	case deferred > 0:
		return detect.RecipientDefer, detail
	}
	return detect.RecipientRefused, detail
}
