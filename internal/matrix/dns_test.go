package matrix

import (
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// zone is what the resolver knows; a name that is missing does not exist.
type zone map[string]name

type name struct {
	a        [4]byte
	mx       []string // in order of preference; "." is a null MX
	servfail bool
	silent   bool
}

// resolve answers from a zone until the test ends.
func resolve(t *testing.T, pc net.PacketConn, z zone) {
	t.Helper()
	if err := pc.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() {
		pc.SetReadDeadline(time.Now()) //nolint:errcheck // it was set before
		<-done
	})
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			if reply, ok := z.answer(m); ok {
				pc.WriteTo(reply, from) //nolint:errcheck // the client asks again
			}
		}
	}()
}

func (z zone) answer(m dnsmessage.Message) ([]byte, bool) {
	q := m.Questions[0]
	known, ok := z[strings.TrimSuffix(strings.ToLower(q.Name.String()), ".")]
	if known.silent {
		return nil, false
	}
	r := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, RecursionDesired: m.RecursionDesired, RecursionAvailable: true}, Questions: m.Questions}
	switch {
	case !ok:
		r.RCode = dnsmessage.RCodeNameError
	case known.servfail:
		r.RCode = dnsmessage.RCodeServerFailure
	case q.Type == dnsmessage.TypeA && known.a != [4]byte{}:
		r.Answers = append(r.Answers, dnsmessage.Resource{Header: header(q), Body: &dnsmessage.AResource{A: known.a}})
	case q.Type == dnsmessage.TypeMX:
		for i, host := range known.mx {
			body := &dnsmessage.MXResource{Pref: uint16(10 * (i + 1)), MX: dnsmessage.MustNewName(strings.TrimSuffix(host, ".") + ".")}
			if host == "." {
				body.Pref = 0
			}
			r.Answers = append(r.Answers, dnsmessage.Resource{Header: header(q), Body: body})
		}
	}
	text, err := r.Pack()
	return text, err == nil
}

func header(q dnsmessage.Question) dnsmessage.ResourceHeader {
	return dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}
}
