package mime

import (
	"bytes"
	"io"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// inline elements do not end a word. What has a colon in its name is such, too:
// Word writes <o:p> and others.
var inline = map[atom.Atom]bool{atom.A: true, atom.Abbr: true, atom.B: true, atom.Bdi: true, atom.Bdo: true, atom.Big: true, atom.Cite: true, atom.Code: true,
	atom.Del: true, atom.Dfn: true, atom.Em: true, atom.Font: true, atom.I: true, atom.Ins: true, atom.Kbd: true, atom.Mark: true, atom.Nobr: true, atom.Q: true,
	atom.S: true, atom.Samp: true, atom.Small: true, atom.Span: true, atom.Strike: true, atom.Strong: true, atom.Sub: true, atom.Sup: true, atom.Tt: true,
	atom.U: true, atom.Var: true, atom.Wbr: true}

func isInline(name []byte, tag atom.Atom) bool {
	return inline[tag] || tag == 0 && bytes.IndexByte(name, ':') > 0
}

// htmlText writes the words of an HTML page to out. It only tokenizes: its
// time is linear and its memory small, whatever the page.
func htmlText(out *bytes.Buffer, page []byte) {
	z := html.NewTokenizer(bytes.NewReader(page))
	z.SetMaxBuf(1 << 20)
	skip := atom.Atom(0) // the element whose text is none
	for out.Len() < maxText {
		switch z.Next() {
		case html.ErrorToken:
			if z.Err() != io.EOF {
				out.WriteByte(' ')
			}
			return
		case html.TextToken:
			if skip == 0 {
				out.Write(z.Text())
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			name, _ := z.TagName()
			tag := atom.Lookup(name)
			if tag == atom.Script || tag == atom.Style {
				skip = tag
			}
			if !isInline(name, tag) {
				out.WriteByte(' ')
			}
		case html.EndTagToken:
			name, _ := z.TagName()
			tag := atom.Lookup(name)
			if tag == skip {
				skip = 0
			}
			if !isInline(name, tag) {
				out.WriteByte(' ')
			}
		}
	}
}
