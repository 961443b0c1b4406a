package sanitize

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/html"
)

// What a style attribute may have. The sanitiser takes time that grows with
// the square of its escapes (CSS Syntax section 4.3.7), and mail needs none.
const (
	maxStyle   = 8 << 10 // bytes
	maxEscapes = 8
)

// styled reads a page without the style attributes that have more than that,
// until a deadline. After it the page ends: what was read is whole tags.
type styled struct {
	in       *html.Tokenizer
	deadline time.Time
	rest     []byte // to be returned before anything is read
	late     bool   // the page was ended
}

func newStyled(page string, deadline time.Time) *styled {
	return &styled{in: html.NewTokenizer(strings.NewReader(page)), deadline: deadline}
}

func (s *styled) Read(p []byte) (int, error) {
	for len(s.rest) == 0 {
		if time.Now().After(s.deadline) {
			s.late = true
			return 0, io.EOF
		}
		kind := s.in.Next()
		s.rest = s.in.Raw()
		if kind == html.ErrorToken && len(s.rest) == 0 {
			return 0, s.in.Err()
		}
		if kind == html.StartTagToken || kind == html.SelfClosingTagToken {
			s.tag()
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// tag drops too much style from the tag that was read.
func (s *styled) tag() {
	if len(s.rest) <= maxStyle && bytes.IndexByte(s.rest, '\\') < 0 && bytes.IndexByte(s.rest, '&') < 0 {
		return
	}
	raw := bytes.Clone(s.rest) // the tokenizer lower-cases names in place
	t := s.in.Token()
	before := len(t.Attr)
	t.Attr = slices.DeleteFunc(t.Attr, func(a html.Attribute) bool {
		return a.Key == "style" && (len(a.Val) > maxStyle || strings.Count(a.Val, `\`) > maxEscapes)
	})
	if s.rest = raw; len(t.Attr) < before {
		s.rest = []byte(t.String())
	}
}
