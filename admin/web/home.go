package web

import (
	"net/http"

	"understudy/internal/directory"
	"understudy/internal/store"
)

// home lists the domains of the user; a mailbox owner has a page of their own.
func (s *Site) home(w http.ResponseWriter, r *http.Request, u *user) error {
	if u.account == nil {
		http.Redirect(w, r, "/me", http.StatusSeeOther)
		return nil
	}
	domains, err := s.Store.Domains(r.Context(), u.viewer())
	if err != nil {
		return err
	}
	return render(w, r, http.StatusOK, homeView(s.page(r, u, "Domains"), domains))
}

// condition is what the detector thinks of a domain's primaries, in a word.
func condition(d *store.Domain) string {
	switch {
	case d.PrimaryFailing:
		return "failing"
	case d.Mode == directory.Emergency:
		return "recovering or unchecked"
	}
	return "no trouble known"
}

// switcher says who changes the mode of a domain.
func switcher(d *store.Domain) string {
	switch {
	case d.Mode == directory.Emergency && d.ModeManual:
		return "by hand: only a person ends it"
	case d.Mode == directory.Emergency:
		return "automatic: ends by itself"
	}
	return map[directory.Activation]string{
		directory.Manual:    "people only",
		directory.Observe:   "people; the detector reports only",
		directory.Automatic: "automatic",
	}[d.Activation]
}
