package mime

import (
	"bytes"
	"io"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// inline elements do not end a word.
var inline = map[atom.Atom]bool{atom.A: true, atom.Abbr: true, atom.B: true, atom.Bdi: true, atom.Big: true, atom.Code: true, atom.Em: true,
	atom.Font: true, atom.I: true, atom.Mark: true, atom.S: true, atom.Small: true, atom.Span: true, atom.Strong: true, atom.Sub: true,
	atom.Sup: true, atom.Tt: true, atom.U: true, atom.Wbr: true}

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
			if !inline[tag] {
				out.WriteByte(' ')
			}
		case html.EndTagToken:
			name, _ := z.TagName()
			tag := atom.Lookup(name)
			if tag == skip {
				skip = 0
			}
			if !inline[tag] {
				out.WriteByte(' ')
			}
		}
	}
}
