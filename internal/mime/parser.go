package mime

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jhillyerd/enmime/v2"
	"github.com/jhillyerd/enmime/v2/mediatype"
)

// Parsers tolerate what mail clients tolerate. The charset that a part states
// is believed, but for US-ASCII, the default (RFC 2045 section 5.2), and the
// other 7-bit ones when the text is 8-bit. Of text that states none, plain takes
// the bytes, and guess has a guess, which costs more than all else.
var (
	plain = newParser(unstated)
	guess = newParser("")
)

// unstated is no charset, so that enmime leaves the bytes as they are.
const unstated = "x-unstated"

func newParser(charset string) *enmime.Parser {
	return enmime.NewParser(enmime.SkipMalformedParts(true), enmime.MultipartWOBoundaryAsSinglePart(true),
		enmime.MaxStoredPartErrors(10), enmime.DisableTextConversion(true), enmime.DisableCharacterDetection(true),
		enmime.SetCustomParseMediaType(mediaTypes(charset)), enmime.SetReadPartErrorPolicy(enmime.AllowCorruptTextPartErrorPolicy))
}

// mediaTypes parses Content-Type fields, and puts charset where none or
// US-ASCII is stated.
func mediaTypes(charset string) enmime.CustomParseMediaType {
	return func(text string) (kind string, params map[string]string, invalid []string, err error) {
		kind, params, invalid, err = mediatype.ParseWithOptions(namesUTF8(text), mediatype.ParseOptions{StripMediaTypeInvalidCharacters: true})
		if stated := params["charset"]; params != nil && (stated == "" || strings.EqualFold(stated, "us-ascii") || charset == "" && isSevenBit(stated)) {
			delete(params, "charset")
			if charset != "" {
				params["charset"] = charset
			}
		}
		return kind, params, invalid, err
	}
}

// kindOf is a part's media type in lower case, "" when it states none.
func kindOf(p *enmime.Part) string {
	if p.ContentType == "" { // enmime then looks at nothing else; RFC 2183 does not ask for a type
		if disposition, params, _, err := mediaTypes("")(p.Header.Get("Content-Disposition")); err == nil {
			p.Disposition, p.FileName = disposition, params["filename"]
		}
	}
	return strings.ToLower(p.ContentType)
}

// isForeign tells whether a text's charset has to be guessed.
func isForeign(p *enmime.Part) bool {
	return (p.Charset == unstated || p.Charset == "") && !utf8.Valid(p.Content) || isSevenBit(p.Charset) && bytes.ContainsRune(p.Content, utf8.RuneError)
}

// isSevenBit reports whether a charset has no 8-bit bytes (RFC 1468, RFC 1557):
// Japanese servers state it of text in others.
func isSevenBit(charset string) bool {
	return len(charset) >= 9 && strings.EqualFold(charset[:9], "iso-2022-")
}

// hintOf is the charset of a part that states none, if its bytes tell; "" if
// they do not.
func hintOf(p *enmime.Part) string {
	if (p.Charset == unstated || p.Charset == "") && bytes.IndexByte(p.Content, escape) >= 0 {
		return "iso-2022-jp"
	}
	return ""
}

// contain makes a panic of the parser an error.
func contain(err *error) {
	if p := recover(); p == errDeadline {
		*err = errDeadline
	} else if p != nil {
		*err = fmt.Errorf("decode: panic: %v at %.2000s", p, debug.Stack())
	}
}

// cut shortens b to at most n bytes, not within a character of UTF-8.
func cut(b []byte, n int) []byte {
	if len(b) <= n {
		return b
	}
	for at := n; at > max(0, n-utf8.UTFMax); at-- {
		if utf8.RuneStart(b[at]) {
			return b[:at]
		}
	}
	return b[:n] // other text
}

var errDeadline = errors.New("decode: taking too long")

// timedReader ends a parser that has been given up, by a panic: enmime meets
// errors with further attempts. contain recovers it.
type timedReader struct {
	r        io.Reader
	deadline time.Time
}

func (t *timedReader) Read(p []byte) (int, error) {
	if time.Now().After(t.deadline) {
		panic(errDeadline)
	}
	return t.r.Read(p)
}
