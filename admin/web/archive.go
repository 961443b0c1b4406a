package web

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"

	"understudy/internal/query"
	"understudy/internal/store"
)

const archiveLines = 50

// archivePage is the search of the archive and a page of what it found.
type archivePage struct {
	page
	Query string
	Where *place // what is wrong with the query
	List  []store.MessageRow
	First string // path of the first page; "" on it
	Next  string // path of the next page; "" on the last
	Owner bool   // a mailbox owner searches: it is all their own
}

// access is whose mail the user may see.
func (u *user) access() store.Access {
	switch {
	case u.account == nil:
		return store.Access{Mailbox: u.mailbox.Address}
	case u.operator():
		return store.Access{All: true}
	}
	return store.Access{Domains: u.account.Domains}
}

func (s *Site) archive(w http.ResponseWriter, r *http.Request, u *user) error {
	if err := r.ParseForm(); err != nil {
		return badForm(err)
	}
	if r.Form.Has("form") { // the fields below the search box: shown as a query
		http.Redirect(w, r, archivePath(composed(r.Form), ""), http.StatusSeeOther)
		return nil
	}
	v := archivePage{page: s.page(r, u, "Mail archive"), Query: strings.TrimSpace(r.Form.Get("q")), Owner: u.account == nil}
	if v.Query != "" {
		v.Title = v.Query + " – " + v.Title
	}
	f := store.MessageFilter{Access: u.access(), Limit: archiveLines}
	var wrong *query.Error
	if err := f.Ask(v.Query); errors.As(err, &wrong) {
		v.Where = placeOf(wrong, v.Query)
		return render(w, r, http.StatusUnprocessableEntity, archiveView(v))
	} else if err != nil {
		return err
	}
	if c := r.Form.Get("page"); c != "" {
		var err error
		if f.Cursor, err = parseCursor(c); err != nil {
			return store.ErrNotFound
		}
		v.First = archivePath(v.Query, "")
	}
	list, next, err := s.Store.SearchMessages(r.Context(), f)
	if err != nil {
		return err
	}
	if v.List = list; next != nil {
		v.Next = archivePath(v.Query, cursorText(*next))
	}
	return render(w, r, http.StatusOK, archiveView(v))
}

// place is what is wrong with a query, which is Before + At + After.
type place struct{ Before, At, After, Wrong string }

// placeOf points at a whole word. Wide letters, and lines that wrap, would move
// a mark below it.
func placeOf(wrong *query.Error, text string) *place {
	p := &place{Before: text[:wrong.Offset], At: text[wrong.Offset:], Wrong: wrong.Text}
	begin := strings.TrimLeftFunc(p.At, unicode.IsSpace)
	if end := strings.IndexFunc(begin, unicode.IsSpace); end >= 0 {
		p.At, p.After = p.At[:len(p.At)-len(begin)+end], begin[end:]
	}
	if p.At == "" {
		p.At = "^"
	}
	return p
}

// composed writes the fields of the form in the query language.
func composed(form url.Values) string {
	var terms []string
	for _, name := range []string{"from", "to", "subject", "filename", "mailbox", "id"} {
		if text := strings.TrimSpace(form.Get(name)); text != "" {
			if strings.ContainsAny(text, `"()\`) || strings.ContainsFunc(text, unicode.IsSpace) || strings.HasPrefix(text, "-") {
				begin, prefix := strings.CutSuffix(text, "*")
				if text = query.Quote(begin); prefix {
					text += "*"
				}
			}
			terms = append(terms, name+":"+text)
		}
	}
	for _, name := range []string{"after", "before", "direction", "route", "larger"} {
		if text := strings.TrimSpace(form.Get(name)); text != "" {
			terms = append(terms, name+":"+text)
		}
	}
	if form.Get("attachment") != "" {
		terms = append(terms, "has:attachment")
	}
	if text := strings.TrimSpace(form.Get("words")); text != "" {
		if q, err := query.Parse(text); err == nil && len(terms) > 0 {
			if _, either := q.Root.(query.Or); either { // it binds less than what stands beside it
				text = "(" + text + ")"
			}
		}
		terms = append(terms, text)
	}
	return strings.Join(terms, " ")
}

// archivePath is the page of a search that begins behind a cursor.
func archivePath(q, cursor string) string {
	v := url.Values{}
	if q != "" {
		v.Set("q", q)
	}
	if cursor != "" {
		v.Set("page", cursor)
	}
	if len(v) == 0 {
		return "/archive"
	}
	return "/archive?" + v.Encode()
}

// cursorText writes a cursor for a URL: microseconds and id.
func cursorText(c store.Cursor) string {
	return strconv.FormatInt(c.Received.UnixMicro(), 36) + "-" + base64.RawURLEncoding.EncodeToString(c.ID[:])
}

func parseCursor(text string) (c store.Cursor, err error) {
	at, id, _ := strings.Cut(text, "-")
	micro, err := strconv.ParseInt(at, 36, 64)
	if err != nil {
		return c, err
	}
	raw, err := base64.RawURLEncoding.DecodeString(id)
	if err != nil {
		return c, err
	}
	c.ID, err = uuid.FromBytes(raw)
	c.Received = time.UnixMicro(micro).UTC()
	return c, err
}

func messagePath(m *store.MessageRow) string { return "/archive/" + m.ID.String() }

// correspondent is the other side of a message.
func correspondent(m *store.MessageRow) string {
	if m.Direction == "outbound" {
		return "to " + cmp.Or(m.ToHeader, m.CcHeader, "undisclosed recipients")
	}
	return cmp.Or(m.FromHeader, m.Sender)
}

// routeText says where a message went when it came (archive.Routes).
func routeText(route string) string {
	return map[string]string{"primary": "the domain’s own mail server", "portal": "the standby portal", "internet": "another server"}[route]
}

func routesText(routes []string) string {
	var texts []string
	for _, r := range routes {
		texts = append(texts, cmp.Or(routeText(r), r))
	}
	return strings.Join(texts, ", ")
}

func subjectOf(subject string) string {
	if subject == "" {
		return "(no subject)"
	}
	return subject
}

// bytesText writes a size for people.
func bytesText(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d bytes", n)
	case n < 1_000_000:
		return fmt.Sprintf("%d kB", (n+500)/1000)
	}
	return fmt.Sprintf("%.1f MB", float64(n)/1e6)
}

func minute(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") }
