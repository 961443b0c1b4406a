package mime

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-message/charset"
	"github.com/jhillyerd/enmime/v2"
	"golang.org/x/text/encoding/charmap"
)

const (
	maxHeader    = 256 << 10 // of a message's header that is looked at, in bytes
	maxSubject   = 4 << 10
	maxAddresses = 64 << 10
	maxMessageID = 998 // RFC 5322 section 2.1.1: the longest line

	escape = 0x1B // switches character sets in ISO 2022 text, which is 7-bit
)

// headers finds and decodes the header fields that the index shows. It works
// on any bytes: fields that make no sense are left out.
func headers(data []byte) Summary {
	raw := fields(data[:min(len(data), maxHeader)], indexed)
	hint := ""
	if m := charsetParam.FindStringSubmatch(raw["content-type"]); m != nil {
		hint = m[1]
	}
	return Summary{
		Subject: decodeField(raw["subject"], hint, maxSubject), From: decodeField(raw["from"], hint, maxAddresses),
		To: decodeField(raw["to"], hint, maxAddresses), Cc: decodeField(raw["cc"], hint, maxAddresses), MessageID: decodeField(raw["message-id"], hint, maxMessageID),
	}
}

// fields collects the raw values of the fields that are wanted. To, Cc and Bcc
// may come again, of others the first counts.
func fields(header []byte, wanted map[string]bool) map[string]string {
	values := map[string]*strings.Builder{}
	var field *strings.Builder // of the line before; nil: not wanted
	for line := range headerLines(header) {
		if line[0] == ' ' || line[0] == '\t' { // folded, RFC 5322 section 2.2.3
			if field != nil {
				field.WriteByte(' ')
				field.Write(bytes.TrimSpace(line))
			}
			continue
		}
		key, value, ok := bytes.Cut(line, []byte(":"))
		name := strings.ToLower(strings.TrimSpace(string(key)))
		field = nil
		switch before := values[name]; {
		case !ok || !wanted[name]:
			continue
		case before == nil:
			field = &strings.Builder{}
			values[name] = field
		case name == "to" || name == "cc" || name == "bcc":
			field = before
			field.WriteString(", ")
		default:
			continue
		}
		field.Write(bytes.TrimSpace(value))
	}
	out := map[string]string{}
	for name, b := range values {
		out[name] = b.String()
	}
	return out
}

var (
	indexed      = map[string]bool{"subject": true, "from": true, "to": true, "cc": true, "message-id": true, "content-type": true}
	charsetParam = regexp.MustCompile(`(?i)charset\s*=\s*"?([A-Za-z0-9._:-]+)`)
)

// headerLines yields the lines up to the empty one that ends the header,
// whether they end with CRLF, LF or CR.
func headerLines(data []byte) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(data) > 0 {
			i := bytes.IndexAny(data, "\r\n")
			line, rest := data, []byte(nil)
			if i >= 0 {
				line, rest = data[:i], data[i+1:]
				if data[i] == '\r' && len(rest) > 0 && rest[0] == '\n' {
					rest = rest[1:]
				}
			}
			if len(line) == 0 || !yield(line) {
				return
			}
			data = rest
		}
	}
}

// decodeField decodes RFC 2047 encoded words, also those that enmime mends,
// and 8-bit text in the charset of the message.
func decodeField(raw, hint string, limit int) (out string) {
	if raw == "" {
		return ""
	}
	raw = eightBitWord.ReplaceAllStringFunc(string(cut([]byte(raw), 4*limit)), escapeEightBit)
	text := toUTF8([]byte(raw), hint)
	if strings.Contains(text, "=?") {
		text = decodeWords(text)
	}
	text = strings.Join(strings.Fields(strings.Map(printable, text)), " ")
	return string(cut([]byte(text), limit))
}

// eightBitWord is an encoded word with letters that should have been encoded.
var eightBitWord = regexp.MustCompile(`=\?[A-Za-z0-9_*.-]+\?[Qq]\?[^?\r\n]*[^\x00-\x7F?][^?\r\n]*\?=`)

// escapeEightBit encodes them: they are in the charset of the word.
func escapeEightBit(word string) string {
	var b strings.Builder
	for i := range len(word) {
		if c := word[i]; c >= utf8.RuneSelf {
			fmt.Fprintf(&b, "=%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// decodeWords has enmime decode a header of one field. A panic leaves the
// text as it is.
func decodeWords(text string) (out string) {
	defer func() {
		if recover() != nil {
			out = text
		}
	}()
	e, err := enmime.ReadEnvelope(strings.NewReader("Subject: " + strings.Map(printable, text) + "\r\n\r\n"))
	if err != nil {
		return text
	}
	return e.GetHeader("Subject")
}

func printable(r rune) rune {
	if r < ' ' || r == 0x7F {
		return ' '
	}
	return r
}

// toUTF8 gives text as it is when it is UTF-8, else read in the charset of
// the hint, else in Windows-1252, the usual one of mail that states none.
func toUTF8(b []byte, hint string) string {
	if utf8.Valid(b) && (hint == "" || bytes.IndexByte(b, escape) < 0) {
		return string(b)
	}
	if hint != "" {
		if r, err := charset.Reader(hint, bytes.NewReader(b)); err == nil {
			if out, err := io.ReadAll(r); err == nil && utf8.Valid(out) && !bytes.ContainsRune(out, utf8.RuneError) {
				return string(out)
			}
		}
	}
	out, err := charmap.Windows1252.NewDecoder().Bytes(b)
	if err != nil {
		return strings.ToValidUTF8(string(b), "\uFFFD")
	}
	return string(out)
}
