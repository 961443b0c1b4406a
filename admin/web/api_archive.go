package web

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/google/uuid"

	"understudy/internal/query"
	"understudy/internal/store"
)

// apiFound is a page of what a search found.
type apiFound struct {
	Messages []store.MessageRow `json:"messages"`
	Next     string             `json:"next,omitempty"` // value of "page" for the next one
}

// apiArchive searches as the page does.
func (s *Site) apiArchive(w http.ResponseWriter, r *http.Request, u *user) error {
	f := store.MessageFilter{Access: u.access(), Limit: archiveLines}
	if text := r.FormValue("limit"); text != "" {
		var err error
		if f.Limit, err = strconv.Atoi(text); err != nil || f.Limit < 1 || f.Limit > 500 {
			return invalid("limit %.20q; it is between 1 and 500", text)
		}
	}
	var wrong *query.Error
	if err := f.Ask(r.FormValue("q")); errors.As(err, &wrong) {
		return fmt.Errorf("%w: the query, at byte %d: %s", store.ErrInvalid, wrong.Offset, wrong.Text)
	} else if err != nil {
		return err
	}
	if text := r.FormValue("page"); text != "" {
		var err error
		if f.Cursor, err = parseCursor(text); err != nil {
			return invalid("page %.40q; it is the \"next\" of an answer", text)
		}
	}
	list, next, err := s.Store.SearchMessages(r.Context(), f)
	if err != nil {
		return err
	}
	out := apiFound{Messages: append([]store.MessageRow{}, list...)}
	if next != nil {
		out.Next = cursorText(*next)
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

// apiSource sends a message byte for byte; it is noted in the audit.
func (s *Site) apiSource(w http.ResponseWriter, r *http.Request, u *user) error {
	id, err := uuid.Parse(r.PathValue("message"))
	if err != nil {
		return store.ErrNotFound
	}
	m, err := s.Store.Message(r.Context(), u.access(), id)
	if err != nil {
		return err
	}
	return s.patiently(w, r, u, m, s.messageDownload)
}
