package mime

import (
	"bytes"
	"html"
	"strings"
	"time"

	"github.com/jhillyerd/enmime/v2"
)

// apart gathers a Message from a tree of parts.
type apart struct {
	*Message
	parser     *enmime.Parser
	foreign    bool // some text is not UTF-8 and states no charset
	text, html bytes.Buffer
	hasHTML    bool
	deadline   time.Time
}

// takeApart parses a squeezed message. With an error there is what was read
// until then.
func takeApart(data []byte, deadline time.Time) (*Message, error) {
	var a *apart
	var err error
	for _, parser := range []*enmime.Parser{plain, guess} {
		a = &apart{Message: letterhead(data), parser: parser, deadline: deadline}
		if err = a.all(data); !a.foreign || err != nil {
			break
		}
	}
	a.Text = a.text.String()
	if a.hasHTML {
		a.HTML = a.html.String()
	}
	return a.Message, err
}

func (a *apart) all(data []byte) (err error) {
	defer contain(&err)
	root, err := a.parser.ReadParts(&timedReader{bytes.NewReader(data), a.deadline})
	if err != nil {
		return err
	}
	return a.part(root, nil)
}

// part takes one part and what is in it; alternative is the innermost
// multipart/alternative around it.
func (a *apart) part(p, alternative *enmime.Part) error {
	if time.Now().After(a.deadline) {
		return errDeadline
	}
	kind := kindOf(p)
	switch {
	case p.FirstChild != nil:
		if kind == "multipart/alternative" {
			alternative = p
		}
	case strings.EqualFold(p.Disposition, "attachment") || p.FileName != "":
		a.file(p, kind)
	case kind == "text/html":
		a.foreign = a.foreign || a.parser == plain && isForeign(p)
		a.page(p, alternative)
	case kind == "" || kind == "text/plain" || strings.HasPrefix(kind, "multipart/"):
		a.foreign = a.foreign || a.parser == plain && isForeign(p)
		a.words(p, alternative)
	default:
		a.file(p, kind)
	}
	for child := p.FirstChild; child != nil; child = child.NextSibling {
		if err := a.part(child, alternative); err != nil {
			return err
		}
	}
	return nil
}

// page takes an HTML part, and its words unless the same stands beside it as
// text.
func (a *apart) page(p, alternative *enmime.Part) {
	text := a.begin(p)
	a.hasHTML = true
	a.add(&a.html, text, "\n")
	if alternative == nil || !holds(alternative, "text/plain") {
		var words bytes.Buffer
		htmlText(&words, []byte(text))
		a.add(&a.text, strings.TrimSpace(words.String()), "\n\n")
	}
}

// words takes a text part, for the page too unless the same stands beside it
// as HTML.
func (a *apart) words(p, alternative *enmime.Part) {
	text := strings.ReplaceAll(a.begin(p), "\r\n", "\n")
	a.add(&a.text, text, "\n")
	if alternative == nil || !holds(alternative, "text/html") {
		a.add(&a.html, "<pre>"+html.EscapeString(text)+"</pre>", "\n")
	}
}

// begin is a text part as far as there could be room for it: what is made of
// it may be many times its size.
func (a *apart) begin(p *enmime.Part) string {
	kept := cut(p.Content, maxBody)
	a.Partial = a.Partial || len(kept) < len(p.Content)
	return toUTF8(kept, hintOf(p))
}

// add appends text as far as there is room.
func (a *apart) add(to *bytes.Buffer, text, end string) {
	room := maxBody - to.Len()
	if room <= 0 || text == "" {
		a.Partial = a.Partial || text != ""
		return
	}
	if len(text) > room {
		text, a.Partial = string(cut([]byte(text), room)), true
	}
	to.WriteString(text)
	to.WriteString(end)
}

// file takes a part that is neither text nor a page.
func (a *apart) file(p *enmime.Part, kind string) {
	name := strings.TrimSpace(p.FileName)
	a.Parts = append(a.Parts, Part{Number: len(a.Parts), Name: strings.Map(printable, toUTF8(cut([]byte(name), maxName), "")), Type: strings.Map(printable, toUTF8(cut([]byte(kind), maxName), "")),
		ContentID: strings.Trim(p.ContentID, "<> "), Size: len(p.Content), Content: p.Content})
}

// holds tells whether a tree has a part of a kind that is not empty.
func holds(p *enmime.Part, kind string) bool {
	for c := p.FirstChild; c != nil; c = c.NextSibling {
		if kindOf(c) == kind && c.FileName == "" && len(bytes.TrimSpace(c.Content)) > 0 || holds(c, kind) {
			return true
		}
	}
	return false
}
