// Package outcome reads what Postfix's smtp(8) says of a delivery: the key
// of smtp_delivery_status_filter (postconf(5)), an enhanced status code
// (RFC 3463) and a text such as
//
//	5.3.1 host mx1.example.org[192.0.2.1] said: 552 5.3.1 disk full (in reply to end of DATA command)
//	4.4.1 connect to mx1.example.org[192.0.2.1]:25: Connection refused
//	2.0.0 250 2.0.0 Ok: queued as 4jYH773Dz7z1SHFw
//
// The text names a host, not a domain, a recipient or (mostly) a port; that
// of a success names nothing. It is foreign text, bounded here.
package outcome

import (
	"regexp"
	"strings"

	"understudy/internal/evidence"
)

// Verdict is what may be done about a result.
type Verdict int

// The verdicts.
const (
	Pass   Verdict = iota // as the server said
	Doubt                 // a refusal that names no reason: one message, or everybody?
	Soften                // a refusal that names the server itself as its reason
)

// Outcome is one result.
type Outcome struct {
	Status  string         // "5.3.1"
	Host    string         // lower case, as the next hop named it; "" is not said
	Class   evidence.Class // "" for a success and for what says nothing of a server
	Verdict Verdict
	Own     bool   // Postfix itself found it out: no server said so
	Said    string // for people: printable, bounded
}

var (
	reply  = regexp.MustCompile(`^host ([^ \[\]]+)\[[^\]]*\] (said|refused to talk to me): ([245]\d\d)`)
	during = regexp.MustCompile(`^(?:lost connection with|conversation with|connect to) ([^ \[\]]+)\[`)
	lookup = regexp.MustCompile(`(?:Name service error for name=|unable to look up host )([^ :]+)`)
	tls    = regexp.MustCompile(`^(?:Cannot start TLS|TLS is required|Server certificate)`)
)

// Parse reads a key. It never fails: what it does not know says nothing.
func Parse(key string) Outcome {
	status, text, _ := strings.Cut(key, " ")
	o := Outcome{Status: status, Said: printable(text)}
	if len(status) < 5 || status[1] != '.' || status[0] != '4' && status[0] != '5' {
		return o
	}
	if m := reply.FindStringSubmatch(text); m != nil {
		o.Host = strings.ToLower(m[1])
		o.Said = printable(text[strings.Index(text, m[2]+": ")+len(m[2])+2:])
		o.judge(m[3], m[2] != "said")
		return o
	}
	o.own(text)
	return o
}

// judge is for what the server itself said.
func (o *Outcome) judge(code string, session bool) {
	server := session || code == "421" || strings.HasPrefix(o.Status[1:], ".3.") && o.Status[2:] != "3.3" && o.Status[2:] != "3.4"
	switch {
	case o.Status[0] == '4' && server:
		o.Class = evidence.ServerTempfail
	case o.Status[0] == '4':
		o.Class = evidence.RecipientDefer
	case server: // 5.3.0, 5.3.1, 5.3.2, 5.3.5; but not 5.3.3 and 5.3.4, which are about the message
		o.Class, o.Verdict = evidence.ServerReject, Soften
	case o.Status == "5.0.0" && (code == "552" || code == "554"):
		o.Class, o.Verdict = evidence.ServerReject, Doubt
	default:
		o.Class = evidence.RecipientRefused
	}
}

// own is for what Postfix found without the server.
func (o *Outcome) own(text string) {
	if m := during.FindStringSubmatch(text); m != nil {
		o.Host, o.Class = strings.ToLower(m[1]), evidence.Unreachable
		if strings.Contains(text, "timed out") {
			o.Class = evidence.Timeout
		}
		return
	}
	if o.Status == "5.4.4" || o.Status == "5.4.6" {
		o.Own, o.Verdict = true, Soften // the primary's name is gone, or is ours
	}
	if m := lookup.FindStringSubmatch(text); m != nil {
		o.Host, o.Class = strings.ToLower(m[1]), evidence.Unreachable
		return
	}
	if tls.MatchString(text) {
		o.Class = evidence.TLS
	}
}

// Softened is the key as a temporary failure, which is the filter's answer.
func Softened(key string) string { return "4" + key[1:] }

const maxSaid = 160 // bytes

// printable makes foreign text fit to be shown.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	if len(s) > maxSaid {
		s = s[:maxSaid-3] + "..."
	}
	return s
}
