package web

import (
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"understudy/admin/wording"
	"understudy/internal/directory"
	"understudy/internal/store"
)

const maxReason = 500 // characters

// switchPage asks for confirmation of a switch.
type switchPage struct {
	page
	Domain   *store.Domain
	To       directory.Mode
	Reason   string
	Steps    []string // what will happen
	Takeover bool     // the mode is there; a person takes it over from the detector
}

// switchWanted reads mode and reason of a form or of the API.
func switchWanted(mode, reason string) (directory.Mode, string, error) {
	to, reason := directory.Mode(mode), strings.TrimSpace(reason)
	if to != directory.Emergency && to != directory.Normal {
		return "", "", fmt.Errorf("%w: mode %.20q; it is emergency or normal", store.ErrInvalid, mode)
	}
	if utf8.RuneCountInString(reason) > maxReason || strings.ContainsFunc(reason, func(r rune) bool { return r < ' ' }) {
		return "", "", fmt.Errorf("%w: the reason is one line of at most %d characters", store.ErrInvalid, maxReason)
	}
	return to, reason, nil
}

func (s *Site) switchConfirm(w http.ResponseWriter, r *http.Request, u *user, d *store.Domain) error {
	to, reason, err := switchWanted(r.FormValue("to"), r.FormValue("reason"))
	if err != nil {
		return err
	}
	v := switchPage{page: s.domainPage(r, u, d, "overview"), Domain: d, To: to, Reason: reason, Steps: wording.Steps(&d.Domain, to), Takeover: d.Mode == to}
	v.Title = fmt.Sprintf("Switch %s to %s", d.Name, to)
	if d.Mode == to && (to == directory.Normal || d.ModeManual) {
		return s.done(w, r, domainPath(d.Name), fmt.Sprintf("%s is in %s already. Nothing was changed.", d.Name, to))
	}
	return render(w, r, http.StatusOK, switchView(v))
}

func (s *Site) switchMode(w http.ResponseWriter, r *http.Request, u *user, d *store.Domain) error {
	if err := r.ParseForm(); err != nil {
		return badForm(err)
	}
	to, reason, err := switchWanted(r.PostFormValue("to"), r.PostFormValue("reason"))
	if err != nil {
		return err
	}
	changed, err := s.switchBy(r, u, d, to, reason)
	if err != nil {
		return err
	}
	flash := fmt.Sprintf("%s is in %s now. %s", d.Name, to, wording.Consequence(to))
	if !changed {
		flash = fmt.Sprintf("%s was in %s already.", d.Name, to)
		if to == directory.Emergency {
			flash += " From now on only a person ends it."
		}
	}
	return s.done(w, r, domainPath(d.Name), flash)
}

// switchBy switches in the name of a user; false when the mode was there.
func (s *Site) switchBy(r *http.Request, u *user, d *store.Domain, to directory.Mode, reason string) (bool, error) {
	c, err := s.Store.SwitchMode(r.Context(), store.Switch{Domain: d.Name, To: to, Actor: u.Name, Manual: true, Reason: reason})
	if err != nil {
		return false, err
	}
	s.Log.Info("mode switched by a person", "domain", d.Name, "to", to, "login", u.Name, "changed", c != nil)
	return c != nil, nil
}
