// Package sanitize makes foreign HTML harmless (bluemonday): what remains has
// no scripts, forms, frames or style sheets, and asks no server for anything.
// It is one of three walls: the page that shows the result is sandboxed, and
// has a content security policy of its own.
package sanitize

import (
	"encoding/base64"
	"net/url"
	"regexp"
	"strconv"
	"time"

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

const (
	maxPictures = 16 << 20 // bytes that pictures add to one page
	cleanTime   = 4 * time.Second
)

// HTML sanitises a page. Pictures that are in the message become part of it.
// What is not done in cleanTime is left out; whole is false then.
func HTML(page string, picture Picture) (clean string, whole bool) {
	return within(cleanTime, page, picture)
}

// within is HTML with a time of its own.
func within(limit time.Duration, page string, picture Picture) (clean string, whole bool) {
	room := maxPictures
	return sanitised(styledPolicy(), limit, page, func(id string) string {
		kind, content, ok := picture(id)
		if encoded := base64.StdEncoding.EncodedLen(len(content)); !ok || !take(&room, encoded) {
			return ","
		}
		return kind + ";base64," + base64.StdEncoding.EncodeToString(content)
	})
}

// shownAs is the source that Shown gives to a picture, in a sanitised page:
// quotes are in there only around attributes.
var shownAs = regexp.MustCompile(` src="data:,(\d+)"`)

// Shown returns the Content-IDs of the pictures that HTML makes part of a page.
func Shown(page string, picture Picture) map[string]bool {
	room := maxPictures
	var ids []string
	clean, _ := sanitised(policy(), cleanTime, page, func(id string) string {
		_, content, ok := picture(id)
		if !ok || !take(&room, base64.StdEncoding.EncodedLen(len(content))) {
			return ","
		}
		ids = append(ids, id)
		return "," + strconv.Itoa(len(ids)-1)
	})
	out := map[string]bool{}
	for _, m := range shownAs.FindAllStringSubmatch(clean, -1) {
		if n, err := strconv.Atoi(m[1]); err == nil && n < len(ids) {
			out[ids[n]] = true
		}
	}
	return out
}

// take takes n of a room that has as much.
func take(room *int, n int) bool {
	if n > *room {
		return false
	}
	*room -= n
	return true
}

// sanitised sanitises a page by a policy of its own; source gives what follows
// "data:" for the picture of a Content-ID.
func sanitised(p *bluemonday.Policy, limit time.Duration, page string, source func(id string) string) (clean string, whole bool) {
	p.RewriteSrc(func(u *url.URL) {
		id := u.Opaque
		if unescaped, err := url.PathUnescape(id); err == nil {
			id = unescaped
		}
		*u = url.URL{Scheme: "data", Opaque: source(id)}
	})
	in := newStyled(page, time.Now().Add(limit))
	clean = p.SanitizeReader(in).String()
	return clean, !in.late
}

// Remote tells whether a page wants pictures of other servers, which HTML
// leaves out.
func Remote(page string) bool { return remote.MatchString(page) }

// policy allows what mail consists of, and nothing that acts.
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
	return p
}

// styledPolicy is policy with what mail looks like. Styles take most of the
// time that sanitising takes.
func styledPolicy() *bluemonday.Policy {
	p := policy()
	p.AllowStyles("color", "background-color", "font-family", "font-size", "font-style", "font-weight", "line-height", "letter-spacing", "text-align",
		"text-decoration", "text-indent", "text-transform", "vertical-align", "white-space", "width", "max-width", "height",
		"margin", "margin-top", "margin-right", "margin-bottom", "margin-left", "padding", "padding-top", "padding-right", "padding-bottom", "padding-left",
		"border", "border-top", "border-right", "border-bottom", "border-left", "border-color", "border-style", "border-width", "border-collapse",
		"border-spacing", "border-radius").Globally()
	return p
}
