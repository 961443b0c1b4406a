package index

import (
	"bufio"
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

const (
	maxText       = 1 << 20 // of decoded text, in bytes
	maxNames      = 200     // attachments
	maxName       = 255     // bytes of one name
	maxDepth      = 3       // of messages within messages
	decodeTimeout = 10 * time.Second
	decoders      = 3 // at once: one at work, the others given up and still running
)

// decoded is what the index wants of a message's bytes.
type decoded struct {
	subject, from, to, messageID string
	text                         string
	attachments                  []string
}

// decoder parses messages, one after the other, each in bounded time and
// memory.
type decoder struct {
	slots   chan struct{}
	timeout time.Duration
	lines   *bufio.Reader
}

func newDecoder() *decoder {
	return &decoder{slots: make(chan struct{}, decoders), timeout: decodeTimeout, lines: bufio.NewReaderSize(nil, lineBytes)}
}

// decode reads a message. With an error there is still all that could be
// decoded. A parser that does not end in time is given up: it ends at its next
// read, and holds a slot until then.
func (d *decoder) decode(body io.Reader) (decoded, error) {
	data, readErr := squeeze(body, d.lines)
	out := headers(data)
	select {
	case d.slots <- struct{}{}:
	default:
		return out, errors.New("decode: earlier messages still keep the parser busy")
	}
	type result struct {
		decoded
		err error
	}
	done := make(chan result, 1)
	deadline := time.Now().Add(d.timeout)
	go func() {
		defer func() { <-d.slots }()
		text, names, err := parts(data, deadline)
		done <- result{decoded{text: text, attachments: names}, err}
	}()
	timer := time.NewTimer(d.timeout)
	defer timer.Stop()
	select {
	case r := <-done:
		out.text, out.attachments = r.text, r.attachments
		return out, errors.Join(readErr, r.err)
	case <-timer.C:
		return out, errors.Join(readErr, fmt.Errorf("decode: not done in %v", d.timeout))
	}
}

// Parsers tolerate what mail clients tolerate. The charset that a part states
// is believed, but for US-ASCII, the default (RFC 2045 section 5.2), which
// 8-bit text does not keep to. Of text that states none, plain takes the
// bytes, and guess has a guess, which costs more than all else.
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
		kind, params, invalid, err = mediatype.ParseWithOptions(text, mediatype.ParseOptions{StripMediaTypeInvalidCharacters: true})
		if stated := params["charset"]; params != nil && (stated == "" || strings.EqualFold(stated, "us-ascii")) {
			delete(params, "charset")
			if charset != "" {
				params["charset"] = charset
			}
		}
		return kind, params, invalid, err
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
	defer func() {
		if p := recover(); p == errDeadline {
			err = errDeadline
		} else if p != nil {
			err = fmt.Errorf("decode: panic: %v at %.2000s", p, debug.Stack())
		}
	}()
	return c.message(data, 0)
}

func (c *collector) message(data []byte, depth int) error {
	root, err := c.parser.ReadParts(&timedReader{bytes.NewReader(data), c.deadline})
	if err != nil {
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
	kind := strings.ToLower(p.ContentType)
	if kind == "" { // enmime then looks at nothing else; RFC 2183 does not ask for a type
		if disposition, params, _, err := mediaTypes("")(p.Header.Get("Content-Disposition")); err == nil {
			p.Disposition, p.FileName = disposition, params["filename"]
		}
	}
	attached := strings.EqualFold(p.Disposition, "attachment")
	switch {
	case p.FirstChild != nil:
	case strings.HasPrefix(kind, "multipart/"): // without a boundary: what there is
		c.content(p, kind)
	case attached || p.FileName != "" || !strings.HasPrefix(kind, "text/") && kind != "":
		c.name(p)
		if kind == "message/rfc822" && depth < maxDepth {
			h := headers(p.Content)
			c.add([]byte(h.subject + " " + h.from + " " + h.to))
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

// content takes the text of a part; of alternatives the plain one.
func (c *collector) content(p *enmime.Part, kind string) {
	c.foreign = c.foreign || c.parser == plain && (p.Charset == unstated || p.Charset == "") && !utf8.Valid(p.Content)
	if kind != "text/html" {
		c.add(p.Content)
		return
	}
	if p.Parent != nil && strings.EqualFold(p.Parent.ContentType, "multipart/alternative") {
		for x := p.Parent.FirstChild; x != nil; x = x.NextSibling {
			if strings.EqualFold(x.ContentType, "text/plain") && len(bytes.TrimSpace(x.Content)) > 0 {
				return
			}
		}
	}
	htmlText(&c.text, []byte(toUTF8(p.Content, "")))
	c.text.WriteByte('\n')
}

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

// cut shortens b to at most n bytes, not within a character.
func cut(b []byte, n int) []byte {
	if len(b) <= n {
		return b
	}
	for n > 0 && !utf8.RuneStart(b[n]) {
		n--
	}
	return b[:n]
}

var errDeadline = errors.New("decode: taking too long")

// timedReader ends a parser that has been given up, by a panic: enmime meets
// errors with further attempts. parts recovers it.
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
