package mime

import (
	"io"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-message/charset"
)

// extended is the name of a file in a charset that is stated (RFC 2231 section
// 4), or a piece of one (section 3): filename*=iso-8859-1”M%E4rz,
// filename*0*=iso-8859-1”M; filename*1*=%E4rz.
var extended = regexp.MustCompile(`(?i);\s*(filename|name)\*(?:([0-9]{1,3})(\*?))?\s*=\s*("(?:[^"\\]|\\.)*"|[^;\s"]*)`)

const maxParams = 64 << 10 // bytes of a field in which names are looked at

// namesUTF8 brings the names of files in a field into UTF-8. The parser leaves
// out those of other charsets, and spoils 8-bit text. Nothing but names is
// changed, so that no boundary appears that squeeze has not seen.
func namesUTF8(text string) string {
	if !utf8.ValidString(text) {
		text = toUTF8([]byte(text), "")
	}
	if len(text) > maxParams || !strings.Contains(text, "*") {
		return text
	}
	names := map[string]*extendedName{}
	for _, m := range extended.FindAllStringSubmatch(text, -1) {
		key := strings.ToLower(m[1])
		if names[key] == nil {
			names[key] = &extendedName{pieces: map[int]string{}}
		}
		names[key].add(m[2], m[2] == "" || m[3] != "", strings.Trim(m[4], `"`))
	}
	for key, n := range names {
		decoded, ok := n.decoded()
		if !ok {
			continue
		}
		text = extended.ReplaceAllStringFunc(text, func(param string) string {
			if strings.EqualFold(extended.FindStringSubmatch(param)[1], key) {
				return ""
			}
			return param
		}) + "; " + key + "*=utf-8''" + strings.ReplaceAll(url.QueryEscape(decoded), "+", "%20")
	}
	return text
}

// extendedName is the name of a file as it is put together.
type extendedName struct {
	charset string
	pieces  map[int]string // their bytes
}

// add adds a piece; one without a number is all.
func (n *extendedName) add(number string, escaped bool, text string) {
	at, _ := strconv.Atoi(number)
	if at == 0 && escaped {
		if set, rest, ok := strings.Cut(text, "'"); ok {
			n.charset, text = set, rest[strings.IndexByte(rest, '\'')+1:] // behind the language
		}
	}
	if _, twice := n.pieces[at]; twice {
		return
	}
	if escaped {
		text = unescape(text)
	}
	n.pieces[at] = text
}

// decoded is the name; ok is false when it is none, or in a charset that the
// parser knows.
func (n *extendedName) decoded() (name string, ok bool) {
	if n.charset == "" || strings.EqualFold(n.charset, "utf-8") || strings.EqualFold(n.charset, "us-ascii") {
		return "", false
	}
	var all strings.Builder
	for i := range len(n.pieces) {
		all.WriteString(n.pieces[i])
	}
	r, err := charset.Reader(n.charset, strings.NewReader(all.String()))
	if err != nil {
		return "", false
	}
	out, err := io.ReadAll(r)
	return string(out), err == nil && utf8.Valid(out)
}

// unescape reads %XX as a byte; what is none stays.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
