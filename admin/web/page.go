package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"io/fs"
	"net/http"
	"strings"

	"github.com/a-h/templ"

	"understudy/internal/archive"
	"understudy/internal/archive/ship"
	"understudy/internal/mime"
	"understudy/internal/password"
	"understudy/internal/store"
)

// page is what every page shows around its content.
type page struct {
	Title   string
	User    *user  // nil: not signed in
	Domain  string // whose tabs to show; "" is none
	Tab     string // name of one of tabs
	Flash   string // what was just done
	Problem string // what was just refused
}

func (s *Site) page(r *http.Request, u *user, title string) page {
	return page{Title: title, User: u, Flash: s.sessions.PopString(r.Context(), keyFlash)}
}

func (s *Site) domainPage(r *http.Request, u *user, d *store.Domain, tab string) page {
	p := s.page(r, u, d.Name)
	p.Domain, p.Tab = d.Name, tab
	for _, t := range tabs {
		if t.name == tab {
			p.Title = t.label + " – " + d.Name
		}
	}
	return p
}

// tabs are the pages of a domain.
var tabs = []struct{ name, label, path string }{
	{"overview", "Overview", ""},
	{"mailboxes", "Mailboxes", "/mailboxes"},
	{"recipients", "Addresses", "/recipients"},
	{"outbound", "Sending", "/outbound"},
	{"settings", "Settings", "/settings"},
	{"audit", "Audit", "/audit"},
}

// render writes a page, or nothing when it cannot be made.
func render(w http.ResponseWriter, r *http.Request, status int, c templ.Component) error {
	var b bytes.Buffer
	// Also when the time is over: that is what the page says then.
	if err := c.Render(context.WithoutCancel(r.Context()), &b); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, err := w.Write(b.Bytes())
	_ = err // the browser is gone
	return nil
}

// done redirects after a form did its work, with a word about it.
func (s *Site) done(w http.ResponseWriter, r *http.Request, to, flash string) error {
	s.sessions.Put(r.Context(), keyFlash, flash)
	http.Redirect(w, r, to, http.StatusSeeOther)
	return nil
}

// handle turns a handler's error into a page.
func (s *Site) handle(h func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			s.fail(w, r, err)
		}
	}
}

// What a request can be refused for.
var (
	errForbidden = errors.New("not allowed")
	errBadForm   = errors.New("the form cannot be read")
)

// verdict is the status and the words for an error.
func (s *Site) verdict(r *http.Request, err error) (status int, title, text string) {
	var tooLarge *http.MaxBytesError
	var bucket *ship.StoreError
	switch {
	case errors.As(err, &bucket): // before the database: both may end by a deadline
		s.Log.Warn("archive bucket cannot be read", "path", r.URL.Path, "error", err)
		return http.StatusServiceUnavailable, "The store of the archive does not answer",
			"This message is kept in a store outside of this host, which cannot be read just now. Mail is not affected, and newer messages can be opened. Try again in a few minutes; if this stays so, tell your operator."
	case store.Unavailable(err):
		s.Log.Warn("database does not answer", "path", r.URL.Path, "error", err)
		return http.StatusServiceUnavailable, "The database does not answer",
			"Mail is not affected: it is delivered, archived and switched over from memory. This page works again as soon as the database does. To switch a domain's mode the database is needed; try again in a minute."
	case errors.Is(err, store.ErrSchema), store.ForeignSchema(err):
		return http.StatusServiceUnavailable, "The database is of another release", "Run: understudy-admin migrate. Mail is not affected."
	case errors.Is(err, mime.ErrBusy):
		return http.StatusServiceUnavailable, "Too many messages are being opened just now", "Please try again in a few seconds."
	case errors.Is(err, mime.ErrWhole):
		return http.StatusUnprocessableEntity, "This file cannot be taken out of its message", "The message is too large or too odd for that. Download the whole message in place of it, and open it in a mail program."
	case errors.Is(err, archive.ErrEncrypted):
		s.Log.Error("message cannot be decrypted", "path", r.URL.Path, "error", err)
		return http.StatusServiceUnavailable, "This message is encrypted", "The archive is, and this website was not given the key to it (archive_identity_file), or not the right one. Ask your operator."
	case errors.Is(err, archive.ErrDamaged), errors.Is(err, fs.ErrNotExist):
		s.Log.Error("message cannot be read from the archive", "path", r.URL.Path, "error", err)
		return http.StatusNotFound, "This message cannot be read", "The archive does not have its bytes any more. It was noted; ask your operator."
	case errors.Is(err, password.ErrBusy):
		return http.StatusServiceUnavailable, "Too many people sign in just now", "Please try again in a few seconds."
	case errors.Is(err, store.ErrNotFound):
		return http.StatusNotFound, "There is no such page", "Or it is not yours to see."
	case errors.Is(err, errForbidden):
		return http.StatusForbidden, "This is not allowed", "Ask your operator."
	case errors.Is(err, store.ErrInvalid), errors.Is(err, store.ErrConflict):
		return http.StatusUnprocessableEntity, "This cannot be done", plain(err)
	case errors.Is(err, errBadForm):
		return http.StatusBadRequest, "This form cannot be read", "Go back and try again."
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge, "This is too large", "Send less at once."
	}
	s.Log.Error("request failed", "path", r.URL.Path, "error", err)
	return http.StatusInternalServerError, "Something went wrong here", "It was noted. Please try again."
}

func (s *Site) fail(w http.ResponseWriter, r *http.Request, err error) {
	status, title, text := s.verdict(r, err)
	s.errorPage(w, r, status, title, text)
}

func (s *Site) errorPage(w http.ResponseWriter, r *http.Request, status int, title, text string) {
	if err := render(w, r, status, errorView(page{Title: title}, text)); err != nil {
		http.Error(w, title, status)
	}
}

// plain is the part of an error that is meant for people.
func plain(err error) string {
	text := err.Error()
	for _, sentinel := range []error{store.ErrInvalid, store.ErrConflict, store.ErrNotFound} {
		if errors.Is(err, sentinel) {
			if _, after, ok := strings.Cut(text, sentinel.Error()+": "); ok {
				return after
			}
		}
	}
	return text
}

// refused reports whether an error is the person's to mend.
func refused(err error) bool {
	for _, e := range []error{store.ErrInvalid, store.ErrConflict, store.ErrNotFound, password.ErrTooShort, password.ErrTooLong, password.ErrCharacter} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

//go:embed static
var staticFiles embed.FS

// styleURL changes with the file, so that browsers may keep it for long.
var styleURL = func() string {
	css, err := staticFiles.ReadFile("static/app.css")
	if err != nil {
		return "/static/app.css"
	}
	sum := sha256.Sum256(css)
	return "/static/app.css?v=" + hex.EncodeToString(sum[:6])
}()

func static() http.Handler {
	files := http.FileServerFS(staticFiles)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/") { // no listings
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Cache-Control", "public, max-age=604800")
		files.ServeHTTP(w, r)
	})
}
