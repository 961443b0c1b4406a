// Package sanitize makes foreign HTML harmless (bluemonday): what remains has
// no scripts, forms, frames or style sheets, and asks no server for anything.
// It is one of three walls: the page that shows the result is sandboxed, and
// has a content security policy of its own.
package sanitize

import (
	"encoding/base64"
	"net/url"
	"regexp"

	"github.com/microcosm-cc/bluemonday"
)

// Picture finds a picture of the same message by its Content-ID (RFC 2392);
// ok is false when there is none that may be shown.
type Picture func(contentID string) (mediaType string, content []byte, ok bool)

var (
	cidOnly = regexp.MustCompile(`(?i)^\s*cid:`)
	remote  = regexp.MustCompile(`(?i)<img\s[^>]*src\s*=\s*["']?\s*(https?:)?//|(background(-image)?\s*[:=][^>;]*)(https?:)?//`)
	size    = regexp.MustCompile(`^\d{1,4}%?$`)
	word    = regexp.MustCompile(`^[a-zA-Z]{1,12}$`)
	color   = regexp.MustCompile(`^(#[0-9a-fA-F]{3,8}|[a-zA-Z]{1,24})$`)
	face    = regexp.MustCompile(`^[a-zA-Z0-9 ,'"-]{1,200}$`)
)

// maxPictures bounds what pictures add to one page, in bytes.
const maxPictures = 16 << 20

// HTML sanitises a page. Pictures that are in the message become part of it.
func HTML(page string, picture Picture) string {
	p := policy()
	room := maxPictures
	p.RewriteSrc(func(u *url.URL) {
		id := u.Opaque
		if unescaped, err := url.PathUnescape(id); err == nil {
			id = unescaped
		}
		*u = url.URL{Scheme: "data", Opaque: ","}
		kind, content, ok := picture(id)
		if encoded := base64.StdEncoding.EncodedLen(len(content)); ok && encoded <= room {
			room -= encoded
			u.Opaque = kind + ";base64," + base64.StdEncoding.EncodeToString(content)
		}
	})
	return p.Sanitize(page)
}

// Remote tells whether a page wants pictures of other servers, which HTML
// leaves out.
func Remote(page string) bool { return remote.MatchString(page) }

// policy allows what mail looks like, and nothing that acts.
func policy() *bluemonday.Policy {
	p := bluemonday.NewPolicy()
	p.AllowElements("a", "abbr", "address", "b", "bdi", "bdo", "big", "blockquote", "br", "caption", "center", "cite", "code", "col", "colgroup", "dd",
		"del", "dfn", "div", "dl", "dt", "em", "figcaption", "figure", "font", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "ins", "kbd", "li", "mark", "ol",
		"p", "pre", "q", "s", "samp", "small", "span", "strike", "strong", "sub", "sup", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "tt", "u", "ul", "var", "wbr")
	p.AllowNoAttrs().OnElements("font", "span", "a")
	p.AllowAttrs("href").OnElements("a")
	p.AllowURLSchemes("http", "https", "mailto", "cid")
	p.RequireParseableURLs(true)
	p.RequireNoFollowOnLinks(true)
	p.RequireNoReferrerOnLinks(true)
	p.AddTargetBlankToFullyQualifiedLinks(true)
	p.AllowAttrs("src").Matching(cidOnly).OnElements("img")
	p.AllowAttrs("alt").OnElements("img")
	p.AllowAttrs("title", "lang", "dir").Globally()
	p.AllowAttrs("width", "height", "border", "cellpadding", "cellspacing", "colspan", "rowspan", "hspace", "vspace").Matching(size).Globally()
	p.AllowAttrs("align", "valign").Matching(word).Globally()
	p.AllowAttrs("bgcolor").Matching(color).Globally()
	p.AllowAttrs("color").Matching(color).OnElements("font")
	p.AllowAttrs("face").Matching(face).OnElements("font")
	p.AllowAttrs("size").Matching(regexp.MustCompile(`^[+-]?\d$`)).OnElements("font")
	p.AllowAttrs("start").Matching(size).OnElements("ol")
	p.AllowStyles("color", "background-color", "font-family", "font-size", "font-style", "font-weight", "line-height", "letter-spacing", "text-align",
		"text-decoration", "text-indent", "text-transform", "vertical-align", "white-space", "width", "max-width", "height",
		"margin", "margin-top", "margin-right", "margin-bottom", "margin-left", "padding", "padding-top", "padding-right", "padding-bottom", "padding-left",
		"border", "border-top", "border-right", "border-bottom", "border-left", "border-color", "border-style", "border-width", "border-collapse",
		"border-spacing", "border-radius").Globally()
	return p
}
