// Package mime reads foreign messages (RFC 5322, RFC 2045 to 2047) in bounded
// time and memory: Decoder for the index, Opener for people who look at one.
//
// A parser may panic, take for ever or want all memory over a hostile
// message: what it gets is squeezed first, its panics are errors, and one that
// takes too long is given up. Nothing outside of this process is needed.
package mime

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/jhillyerd/enmime/v2"
)

const (
	maxText       = 1 << 20 // of decoded text, in bytes
	maxNames      = 200     // attachments
	maxName       = 255     // bytes of one name
	maxDepth      = 3       // of messages within messages
	decodeTimeout = 10 * time.Second
	decoders      = 3 // at once: one at work, the others given up and still running
)

// Summary is what the index wants of a message's bytes.
type Summary struct {
	Subject, From, To, Cc, MessageID string
	Text                             string
	Attachments                      []string
}

// Decoder parses messages, one after the other, each in bounded time and
// memory.
type Decoder struct {
	slots   chan struct{}
	timeout time.Duration
	lines   *bufio.Reader
}

// NewDecoder returns a decoder; it is for one goroutine.
func NewDecoder() *Decoder {
	return &Decoder{slots: make(chan struct{}, decoders), timeout: decodeTimeout, lines: bufio.NewReaderSize(nil, lineBytes)}
}

// Decode reads a message. With an error there is still all that could be
// decoded. A parser that does not end in time is given up: it ends at its next
// read, and holds a slot until then.
func (d *Decoder) Decode(body io.Reader) (Summary, error) {
	data, _, readErr := squeeze(body, d.lines, forIndex)
	out := headers(data)
	select {
	case d.slots <- struct{}{}:
	default:
		return out, errors.New("decode: earlier messages still keep the parser busy")
	}
	type result struct {
		Summary
		err error
	}
	done := make(chan result, 1)
	deadline := time.Now().Add(d.timeout)
	go func() {
		defer func() { <-d.slots }()
		text, names, err := parts(data, deadline)
		done <- result{Summary{Text: text, Attachments: names}, err}
	}()
	timer := time.NewTimer(d.timeout)
	defer timer.Stop()
	select {
	case r := <-done:
		out.Text, out.Attachments = r.Text, r.Attachments
		return out, errors.Join(readErr, r.err)
	case <-timer.C:
		return out, errors.Join(readErr, fmt.Errorf("decode: not done in %v", d.timeout))
	}
}

// collector gathers text and attachment names from a tree of parts.
type collector struct {
	parser   *enmime.Parser
	foreign  bool // some text is not UTF-8 and states no charset
	text     bytes.Buffer
	names    []string
	deadline time.Time
}

// parts decodes the MIME parts of a message.
func parts(data []byte, deadline time.Time) (text string, names []string, err error) {
	c := &collector{deadline: deadline}
	for _, c.parser = range []*enmime.Parser{plain, guess} {
		c.text.Reset()
		c.names, c.foreign = nil, false
		if err = c.all(data); !c.foreign || err != nil {
			break
		}
	}
	return c.text.String(), c.names, err
}

// all collects from the whole message; a panic of the parser is an error.
func (c *collector) all(data []byte) (err error) {
	defer contain(&err)
	return c.message(data, 0)
}

func (c *collector) message(data []byte, depth int) error {
	root, err := c.parser.ReadParts(&timedReader{bytes.NewReader(data), c.deadline})
	if err != nil {
		c.add(data) // searched as it stands
		return fmt.Errorf("decode: %w", err)
	}
	return c.part(root, depth)
}

// part takes one part and what is in it.
func (c *collector) part(p *enmime.Part, depth int) error {
	if time.Now().After(c.deadline) {
		return errDeadline
	}
	var errs []error
	kind := kindOf(p)
	attached := strings.EqualFold(p.Disposition, "attachment")
	switch {
	case p.FirstChild != nil:
	case strings.HasPrefix(kind, "multipart/"): // without a boundary: what there is
		c.content(p, kind)
	case attached || p.FileName != "" || !strings.HasPrefix(kind, "text/") && kind != "":
		c.name(p)
		if kind == "message/rfc822" && depth < maxDepth {
			h := headers(p.Content)
			c.add([]byte(h.Subject + " " + h.From + " " + h.To + " " + h.Cc))
			errs = append(errs, c.message(p.Content, depth+1))
		} else if !attached && strings.HasPrefix(kind, "text/") {
			c.content(p, kind)
		}
	default:
		c.content(p, kind)
	}
	for child := p.FirstChild; child != nil; child = child.NextSibling {
		errs = append(errs, c.part(child, depth))
	}
	return errors.Join(errs...)
}

// content takes the text of a part; of a page that stands beside the same as
// text nothing.
func (c *collector) content(p *enmime.Part, kind string) {
	c.foreign = c.foreign || c.parser == plain && isForeign(p)
	text := []byte(toUTF8(p.Content, hintOf(p)))
	if kind != "text/html" || c.text.Len() >= maxText {
		c.add(text)
		return
	}
	var page bytes.Buffer
	htmlText(&page, text)
	if p.Parent != nil && strings.EqualFold(p.Parent.ContentType, "multipart/alternative") {
		for x := p.Parent.FirstChild; x != nil; x = x.NextSibling {
			if strings.EqualFold(x.ContentType, "text/plain") && holdsWords(x.Content, page.Bytes()) {
				return
			}
		}
	}
	c.add(page.Bytes())
}

// holdsWords tells whether a text has every word of a page. Many say no more
// than that the page should be looked at.
func holdsWords(text, page []byte) bool {
	known := map[string]bool{}
	for w := range bytes.FieldsFuncSeq(bytes.ToLower(cut(text, maxText)), noWord) {
		known[string(w)] = true
	}
	for w := range bytes.FieldsFuncSeq(bytes.ToLower(page), noWord) {
		if !known[string(w)] {
			return false
		}
	}
	return true
}

func noWord(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }

func (c *collector) add(text []byte) {
	if room := maxText - c.text.Len(); room > 0 {
		c.text.WriteString(toUTF8(cut(text, room), ""))
		c.text.WriteByte('\n')
	}
}

// name notes an attachment: one without a file name by its type.
func (c *collector) name(p *enmime.Part) {
	name := strings.TrimSpace(p.FileName)
	if name == "" {
		name = p.ContentType
	}
	if name != "" && len(c.names) < maxNames {
		c.names = append(c.names, toUTF8(cut([]byte(name), maxName), ""))
	}
}
