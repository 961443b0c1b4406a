// Package address holds the one way in which Understudy normalises e-mail
// addresses, so that Postfix lookups, Dovecot logins and the directory always
// mean the same mailbox.
//
// Grammar: RFC 5321 section 4.1.2 (Mailbox), RFC 6531 for UTF-8, RFC 5891
// (IDNA) for domains. Postfix hands keys over as the client sent them: case,
// "+tag" and quotes are kept (facts about socketmap), so the receiver must
// normalise.
package address

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// MaxLength is the longest address accepted, in octets (RFC 5321 section
// 4.5.3.1.3: a path of 256 octets including the angle brackets).
const MaxLength = 254

// ErrInvalid marks text that is not an e-mail address.
var ErrInvalid = errors.New("not an e-mail address")

// Address is a normalised mailbox name. Compare with ==.
type Address struct {
	Local  string // unquoted, case-folded, without "+detail"
	Detail string // what followed the first '+', case kept; "" if none
	Domain string // lower-case A-label form (RFC 5890)
}

// String returns the canonical address, without the detail.
func (a Address) String() string { return quoteLocal(a.Local) + "@" + a.Domain }

// IsZero reports whether a is the null reverse-path "<>".
func (a Address) IsZero() bool { return a.Domain == "" }

// Parse normalises s, with or without angle brackets. The null reverse-path
// gives the zero Address and no error.
func Parse(s string) (Address, error) {
	s = strings.TrimSpace(s)
	if strings.HasPrefix(s, "<") && strings.HasSuffix(s, ">") {
		s = s[1 : len(s)-1]
	}
	if s == "" {
		return Address{}, nil
	}
	if len(s) > MaxLength || !utf8.ValidString(s) {
		return Address{}, fmt.Errorf("%w: %.64q", ErrInvalid, s)
	}
	if strings.HasPrefix(s, "@") { // source route, RFC 5321 appendix C: ignored
		if _, rest, ok := strings.Cut(s, ":"); ok {
			s = rest
		}
	}
	at := strings.LastIndexByte(s, '@')
	if at <= 0 || at == len(s)-1 {
		return Address{}, fmt.Errorf("%w: %.64q (want local@domain)", ErrInvalid, s)
	}
	local, err := unquoteLocal(s[:at])
	if err != nil {
		return Address{}, fmt.Errorf("%w: %.64q", err, s)
	}
	return join(local, s[at+1:])
}

// ParseUnquoted is Parse for text from which somebody took the quotes and
// backslashes away, as Postfix does in policy requests and Dovecot in user
// names: RCPT TO:<"a b"@example.org> comes as "a b@example.org".
func ParseUnquoted(s string) (Address, error) {
	at := strings.LastIndexByte(s, '@')
	if at <= 0 || len(s) > MaxLength || !utf8.ValidString(s) || strings.ContainsAny(s, forbidden) {
		return Address{}, fmt.Errorf("%w: %.64q", ErrInvalid, s)
	}
	return join(s[:at], s[at+1:])
}

// join normalises an unquoted local part and a domain.
func join(local, domain string) (Address, error) {
	domain, err := Domain(domain)
	if err != nil {
		return Address{}, err
	}
	a := Address{Local: local, Domain: domain}
	// A leading '+' is part of the name, not a separator of an empty one.
	if i := strings.IndexByte(local, '+'); i > 0 {
		a.Local, a.Detail = local[:i], local[i+1:]
	}
	a.Local = fold(a.Local)
	return a, nil
}

// Domain normalises a domain name: A-labels, lower case, no final dot.
// Address literals ("[192.0.2.1]") are kept, lower-cased.
func Domain(s string) (string, error) {
	s = strings.TrimSuffix(strings.TrimSpace(s), ".")
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		return strings.ToLower(s), nil
	}
	d := strings.ToLower(s)
	var err error
	// IDNA refuses '_' and "--", which plain names in use do have.
	if !isHostname(d) || strings.HasPrefix(d, "xn--") || strings.Contains(d, ".xn--") {
		d, err = idna.Lookup.ToASCII(d)
	}
	if err != nil || !isHostname(d) {
		return "", fmt.Errorf("%w: domain %.64q", ErrInvalid, s)
	}
	return d, nil
}

// isHostname checks RFC 1035 lengths and RFC 1123 letters (plus '_', seen in
// real mail).
func isHostname(d string) bool {
	if len(d) > 253 {
		return false
	}
	for label := range strings.SplitSeq(d, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for i := 0; i < len(label); i++ {
			c := label[i]
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

// fold lower-cases and composes, so that "É" and "é" (composed or not) meet.
// Case folding of local parts is not in RFC 5321, but every primary we know
// folds, and Dovecot's own username format lower-cases too.
func fold(s string) string { return norm.NFC.String(strings.ToLower(norm.NFC.String(s))) }

func unquoteLocal(s string) (string, error) {
	if !strings.HasPrefix(s, `"`) {
		if strings.ContainsAny(s, " \t\r\n\x00\"<>*") {
			return "", ErrInvalid
		}
		return s, nil
	}
	if len(s) < 3 || !strings.HasSuffix(s, `"`) {
		return "", ErrInvalid
	}
	var b strings.Builder
	in := s[1 : len(s)-1]
	for i := 0; i < len(in); i++ {
		switch c := in[i]; {
		case c == '\\' && i+1 < len(in):
			i++
			b.WriteByte(in[i])
		case c == '"' || c == '\\' || c == '\r' || c == '\n' || c == 0:
			return "", ErrInvalid
		default:
			b.WriteByte(c)
		}
	}
	if b.Len() == 0 || strings.ContainsAny(b.String(), forbidden) {
		return "", ErrInvalid
	}
	return b.String(), nil
}

// forbidden is what no local part has, quoted or not. '*' separates Dovecot's
// master user from the user.
const forbidden = "\r\n\x00*"

const atext = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-/=?^_`{|}~."

// quoteLocal quotes a local part where RFC 5321 wants it (Dot-string or
// Quoted-string).
func quoteLocal(s string) string {
	plain := s != "" && s[0] != '.' && s[len(s)-1] != '.' && !strings.Contains(s, "..")
	for i := 0; plain && i < len(s); i++ {
		plain = s[i] >= 0x80 || strings.IndexByte(atext, s[i]) >= 0
	}
	if plain {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
