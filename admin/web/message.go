package web

import (
	"errors"
	"fmt"
	"io"
	stdmime "mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"understudy/internal/mime"
	"understudy/internal/sanitize"
	"understudy/internal/store"
)

const (
	maxSource    = 256 << 10 // bytes of source on a page
	downloadTime = 30 * time.Minute
)

// messagePage shows one message.
type messagePage struct {
	page
	Row     *store.MessageRow
	Message *mime.Message // nil: it could not be taken apart
	Files   []mime.Part   // those that the page does not show itself
	HTML    bool          // the formatted form is shown
	Remote  bool          // it wants pictures of other servers
	Owner   bool
	Source  string // on the page of the source
	Cut     bool   // of which this is only the begin
}

type messageHandler func(http.ResponseWriter, *http.Request, *user, *store.MessageRow) error

// inMessage runs h with the message of the path when the user may see it.
func (s *Site) inMessage(h messageHandler) http.HandlerFunc {
	return s.signedIn(func(w http.ResponseWriter, r *http.Request, u *user) error {
		id, err := uuid.Parse(r.PathValue("message"))
		if err != nil {
			return store.ErrNotFound
		}
		m, err := s.Store.Message(r.Context(), u.access(), id)
		if err != nil {
			return err
		}
		return s.patiently(w, r, u, m, h)
	})
}

func (s *Site) message(w http.ResponseWriter, r *http.Request, u *user, m *store.MessageRow) error {
	if err := s.look(r.Context(), u, store.ActionView, m, ""); err != nil {
		return err
	}
	v := messagePage{page: page{Title: subjectOf(m.Subject), User: u}, Row: m, Owner: u.account == nil}
	parsed, err := s.opened(r, u, m)
	if err != nil {
		return err
	}
	v.Message, v.HTML = parsed, parsed.HTML != "" && r.FormValue("as") != "text"
	v.Remote = v.HTML && sanitize.Remote(parsed.HTML)
	if v.Files = parsed.Parts; v.HTML {
		v.Files = withoutShown(parsed)
	}
	w.Header().Set("Content-Security-Policy", csp+"; frame-src 'self'")
	return render(w, r, http.StatusOK, messageView(v))
}

// opened takes a message apart; what hostile bytes do to the parser is noted
// and shown as far as it came.
func (s *Site) opened(r *http.Request, u *user, m *store.MessageRow) (*mime.Message, error) {
	body, size, done, err := s.record(r.Context(), u, m)
	if err != nil {
		return nil, err
	}
	defer done()
	parsed, err := s.opener.Open(r.Context(), body, size)
	if parsed == nil {
		return nil, err
	}
	if err != nil {
		s.Log.Warn("message not fully decoded for its page", "id", m.ID, "error", err)
	}
	return parsed, nil
}

// messageSource shows the source, or the begin of it.
func (s *Site) messageSource(w http.ResponseWriter, r *http.Request, u *user, m *store.MessageRow) error {
	if err := s.look(r.Context(), u, store.ActionSource, m, ""); err != nil {
		return err
	}
	body, _, done, err := s.record(r.Context(), u, m)
	if err != nil {
		return err
	}
	defer done()
	text, err := io.ReadAll(io.LimitReader(body, maxSource+1))
	if err != nil {
		return err
	}
	v := messagePage{page: page{Title: "Source of " + subjectOf(m.Subject), User: u}, Row: m, Cut: len(text) > maxSource}
	v.Source = strings.ReplaceAll(strings.ToValidUTF8(string(text[:min(len(text), maxSource)]), "\uFFFD"), "\x00", "\uFFFD")
	return render(w, r, http.StatusOK, sourceView(v))
}

// messageDownload sends the message byte for byte.
func (s *Site) messageDownload(w http.ResponseWriter, r *http.Request, u *user, m *store.MessageRow) error {
	if err := s.look(r.Context(), u, store.ActionDownload, m, "the message"); err != nil {
		return err
	}
	body, _, done, err := s.record(r.Context(), u, m)
	if err != nil {
		return err
	}
	defer done()
	attachment(w, m.ID.String()+".eml")
	_, err = io.Copy(w, body)
	s.ended(err, m)
	return nil
}

// messageFile sends a file that is in the message.
func (s *Site) messageFile(w http.ResponseWriter, r *http.Request, u *user, m *store.MessageRow) error {
	number, err := strconv.Atoi(r.PathValue("number"))
	if err != nil {
		return store.ErrNotFound
	}
	body, size, done, err := s.record(r.Context(), u, m)
	if err != nil {
		return err
	}
	defer done()
	part, err := s.opener.Part(r.Context(), body, size, number)
	if errors.Is(err, mime.ErrNoPart) {
		return store.ErrNotFound
	} else if err != nil {
		return err
	}
	name := fileName(part)
	if err := s.look(r.Context(), u, store.ActionDownload, m, name); err != nil {
		return err
	}
	attachment(w, name)
	w.Header().Set("Content-Length", strconv.Itoa(len(part.Content)))
	_, err = w.Write(part.Content)
	s.ended(err, m)
	return nil
}

// ended notes a download that broke off: the client went away, or the archive
// has only the begin.
func (s *Site) ended(err error, m *store.MessageRow) {
	if err != nil {
		s.Log.Warn("download broke off", "id", m.ID, "error", err)
		panic(http.ErrAbortHandler) // so that the client sees that it is not whole
	}
}

// attachment has the browser save what comes, whatever it is, and never show
// it.
func attachment(w http.ResponseWriter, name string) {
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", stdmime.FormatMediaType("attachment", map[string]string{"filename": name}))
	h.Set("Content-Security-Policy", csp+"; sandbox")
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(downloadTime)) //nolint:errcheck // then the shorter one holds
}

// endings are those of files that often have no name, without which a computer
// does not know what to open them with.
var endings = map[string]string{"message/rfc822": ".eml", "message/delivery-status": ".txt", "text/rfc822-headers": ".txt", "text/calendar": ".ics",
	"application/pdf": ".pdf", "image/png": ".png", "image/jpeg": ".jpg", "image/gif": ".gif"}

// fileName makes a name that is safe to save under, of one that a stranger
// chose (RFC 6266 section 4.3).
func fileName(p *mime.Part) string {
	name := p.Name[strings.LastIndexAny(p.Name, `/\`)+1:]
	name = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || strings.ContainsRune(`<>:"|?*`, r) { // also marks that turn the direction of writing
			return -1
		}
		return r
	}, name)
	if name = strings.Trim(name, " ."); name == "" {
		return fmt.Sprintf("part-%d%s", p.Number+1, endings[p.Type])
	}
	for len(name) > 150 { // its end tells what it is
		_, n := utf8.DecodeRuneInString(name)
		name = name[n:]
	}
	return name
}
