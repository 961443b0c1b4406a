package query

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Parse reads a query. The error is an *Error. A blank one finds everything;
// one that has nothing but signs is refused, not taken for that.
func Parse(text string) (*Query, error) {
	if len(text) > MaxLength {
		return nil, fail(MaxLength, "the query is too long: %d bytes are allowed", MaxLength)
	}
	if at := invalidUTF8(text); at >= 0 {
		return nil, fail(at, "this is not UTF-8 text")
	}
	p := &parser{text: text}
	root, err := p.or(0)
	if err != nil {
		return nil, err
	}
	if p.at < len(p.text) { // only a parenthesis stops or
		return nil, fail(p.at, `no "(" belongs to this ")"; in quotes it is searched as text`)
	}
	if blank := strings.TrimLeftFunc(text, unicode.IsSpace); root == nil && blank != "" {
		return nil, fail(len(text)-len(blank), "there is no letter or digit to search for here")
	}
	return &Query{Root: root}, nil
}

func invalidUTF8(s string) int {
	for i, r := range s {
		if r == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(s[i:]); size == 1 {
				return i
			}
		}
	}
	return -1
}

// parser is at a place in a text. Its grammar:
//
//	or   = and { "OR" and }
//	and  = { [ "AND" ] [ "-" ] unit }
//	unit = "(" or ")" | [ field ":" ] value
type parser struct {
	text  string
	at    int
	terms int
}

func (p *parser) space() {
	for n := space(p.text[p.at:]); n > 0; n = space(p.text[p.at:]) {
		p.at += n
	}
}

// space is how many bytes the blank at the begin of s has, 0 if there is none.
// Copied text has no-break spaces, and Japanese is typed with wide ones.
func space(s string) int {
	if r, n := utf8.DecodeRuneInString(s); unicode.IsSpace(r) {
		return n
	}
	return 0
}

// keyword eats an upper-case word that stands alone.
func (p *parser) keyword(word string) bool {
	rest := p.text[p.at:]
	if !strings.HasPrefix(rest, word) || len(rest) > len(word) && space(rest[len(word):]) == 0 && rest[len(word)] != '(' && rest[len(word)] != ')' {
		return false
	}
	p.at += len(word)
	return true
}

func (p *parser) or(depth int) (Node, error) {
	var all Or
	for {
		start := p.at
		n, err := p.and(depth)
		if err != nil {
			return nil, err
		}
		at := p.at
		more := p.keyword("OR")
		if n == nil && (more || len(all) > 0) {
			if more {
				return nil, fail(at, `OR needs something on both sides; "OR" in quotes is searched as text`)
			}
			return nil, fail(max(start-len("OR"), 0), `OR needs something on both sides; "OR" in quotes is searched as text`)
		}
		if !more {
			if len(all) == 0 {
				return n, nil
			}
			return append(all, n), nil
		}
		all = append(all, n)
	}
}

// and reads up to OR, a closing parenthesis or the end. It returns nil when
// there was nothing.
func (p *parser) and(depth int) (Node, error) {
	var all And
	for {
		p.space()
		here := p.at
		if p.at == len(p.text) || p.text[p.at] == ')' || p.keyword("OR") {
			p.at = here
			break
		}
		if p.keyword("AND") {
			continue
		}
		n, err := p.signed(depth)
		if err != nil {
			return nil, err
		}
		if n != nil {
			all = append(all, n)
		}
	}
	switch len(all) {
	case 0:
		return nil, nil
	case 1:
		return all[0], nil
	}
	return all, nil
}

func (p *parser) signed(depth int) (Node, error) {
	negated := false
	if c := p.text[p.at]; c == '-' && p.at+1 < len(p.text) && space(p.text[p.at+1:]) == 0 {
		negated = true
		p.at++
	}
	n, err := p.unit(depth)
	if err != nil || n == nil || !negated {
		return n, err
	}
	return Not{n}, nil
}

func (p *parser) unit(depth int) (Node, error) {
	start := p.at
	if p.text[p.at] != '(' {
		if p.terms++; p.terms > maxTerms {
			return nil, fail(start, "the query has too many terms: %d are allowed", maxTerms)
		}
		return p.term()
	}
	if depth == maxDepth {
		return nil, fail(start, "the parentheses are nested too deep: %d levels are allowed", maxDepth)
	}
	p.at++
	n, err := p.or(depth + 1)
	if err != nil {
		return nil, err
	}
	if p.at == len(p.text) {
		return nil, fail(start, `this "(" is not closed; add ")", or put it in quotes to search it as text`)
	}
	p.at++
	if n == nil {
		return nil, fail(start, "there is nothing in these parentheses")
	}
	return n, nil
}

// value is the text of a term.
type value struct {
	at     int // where it begins
	text   string
	quoted bool
	prefix bool // a * follows
}

// value reads a word up to a blank or parenthesis, or a quoted text. A
// backslash takes away the meaning of what follows it.
func (p *parser) value() (value, error) {
	v := value{at: p.at}
	if p.at < len(p.text) && p.text[p.at] == '"' {
		v.quoted = true
		p.at++
	}
	var b strings.Builder
	for ; p.at < len(p.text); p.at++ {
		c := p.text[p.at]
		switch {
		case c == '\\' && p.at+1 < len(p.text):
			p.at++
			b.WriteByte(p.text[p.at])
			v.prefix = false
			continue
		case v.quoted && c == '"':
			p.at++
			v.text = b.String()
			if v.prefix = p.at < len(p.text) && p.text[p.at] == '*'; v.prefix {
				p.at++
			}
			return v, nil
		case !v.quoted && (space(p.text[p.at:]) > 0 || c == '(' || c == ')' || c == '"'):
			v.text = b.String()
			return v, nil
		}
		v.prefix = !v.quoted && c == '*'
		b.WriteByte(c)
	}
	if v.quoted {
		return v, fail(v.at, `this quote is not closed; add ", or write \" to search a quote`)
	}
	v.text = b.String()
	return v, nil
}

// term reads a field with its value, or a value. It returns nil for what has
// neither letters nor digits, such as a lone "&".
func (p *parser) term() (Node, error) {
	start := p.at
	if name := fieldName(p.text[p.at:]); name != "" {
		p.at += len(name) + 1
		read, known := fields[strings.ToLower(name)]
		if !known {
			return nil, fail(start, "there is no field %s:; there are %s. To search it as text, write it in quotes", name, fieldList)
		}
		v, err := p.value()
		if err != nil {
			return nil, err
		}
		if strings.TrimSpace(v.text) == "" {
			return nil, fail(v.at, "%s: needs a value right behind the colon, such as %s", strings.ToLower(name), read.example)
		}
		return read.read(v)
	}
	v, err := p.value()
	if err != nil {
		return nil, err
	}
	return words(Any)(v)
}

// fieldName is the name in front of a colon, or "": times (12:30) and URLs
// (https://) have none.
func fieldName(s string) string {
	end := 0
	for end < len(s) && (s[end] >= 'a' && s[end] <= 'z' || s[end] >= 'A' && s[end] <= 'Z' || end > 0 && s[end] == '-') {
		end++
	}
	if end == 0 || end == len(s) || s[end] != ':' || strings.HasPrefix(s[end:], "://") {
		return ""
	}
	return s[:end]
}
