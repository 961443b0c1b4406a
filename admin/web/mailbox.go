package web

import (
	"fmt"
	"net/http"
	"strings"

	"understudy/internal/address"
	"understudy/internal/password"
	"understudy/internal/store"
)

// mailboxPage is all about one mailbox.
type mailboxPage struct {
	page
	Mailbox *store.Mailbox
	Apps    []store.AppPassword
	Alias   string // what was typed and refused
}

type mailboxHandler func(http.ResponseWriter, *http.Request, *user, *store.Domain, *store.Mailbox) error

// inMailbox runs h with the mailbox of the path when it is of the domain.
func (s *Site) inMailbox(h mailboxHandler) domainHandler {
	return func(w http.ResponseWriter, r *http.Request, u *user, d *store.Domain) error {
		a, err := address.Parse(r.PathValue("mailbox"))
		if err != nil || a.Domain != d.Name {
			return store.ErrNotFound
		}
		m, err := s.Store.Mailbox(r.Context(), u.viewer(), a.String())
		if err != nil {
			return err
		}
		if r.Method == http.MethodPost {
			if err := r.ParseForm(); err != nil {
				return badForm(err)
			}
		}
		return h(w, r, u, d, m)
	}
}

func (s *Site) mailbox(w http.ResponseWriter, r *http.Request, u *user, d *store.Domain, m *store.Mailbox) error {
	return s.mailboxShow(w, r, u, d, m, nil)
}

// mailboxShow shows the page, with what was refused, if anything was.
func (s *Site) mailboxShow(w http.ResponseWriter, r *http.Request, u *user, d *store.Domain, m *store.Mailbox, problem error) error {
	if problem != nil && !refused(problem) {
		return problem
	}
	apps, err := s.Store.AppPasswords(r.Context(), m.Address)
	if err != nil {
		return err
	}
	v := mailboxPage{page: s.domainPage(r, u, d, "mailboxes"), Mailbox: m, Apps: apps}
	v.Title = m.Address
	status := http.StatusOK
	if problem != nil {
		v.Problem, v.Alias, status = plain(problem), r.PostFormValue("alias"), http.StatusUnprocessableEntity
	}
	return render(w, r, status, mailboxView(v))
}

func (s *Site) mailboxSave(w http.ResponseWriter, r *http.Request, u *user, d *store.Domain, m *store.Mailbox) error {
	name, covered, enabled := strings.TrimSpace(r.PostFormValue("name")), r.PostFormValue("covered") != "", r.PostFormValue("enabled") != ""
	if err := s.Store.SetMailbox(r.Context(), m.Address, store.MailboxChange{Name: &name, Covered: &covered, Enabled: &enabled}); err != nil {
		return s.mailboxShow(w, r, u, d, m, err)
	}
	return s.done(w, r, mailboxPath(m), "Saved.")
}

// mailboxPassword sets what was typed or, when nothing was, makes one.
func (s *Site) mailboxPassword(w http.ResponseWriter, r *http.Request, u *user, d *store.Domain, m *store.Mailbox) error {
	typed := r.PostFormValue("password")
	made := typed == ""
	var hash string
	var err error
	if made {
		typed, hash, err = s.newPassword()
	} else {
		hash, err = password.Hash(typed)
	}
	if err == nil {
		err = s.Store.SetMailboxPassword(r.Context(), m.Address, hash)
	}
	if err != nil {
		return s.mailboxShow(w, r, u, d, m, err)
	}
	s.Log.Info("password set by an admin", "mailbox", m.Address, "login", u.Name)
	if made {
		return s.showPassword(w, r, u, d, m.Address, typed)
	}
	return s.done(w, r, mailboxPath(m), "The password is set.")
}

func (s *Site) mailboxAliasAdd(w http.ResponseWriter, r *http.Request, u *user, d *store.Domain, m *store.Mailbox) error {
	alias, err := ownAddress(strings.TrimSpace(r.PostFormValue("alias")), d)
	if err == nil {
		err = s.Store.AddAlias(r.Context(), alias, m.Address)
	}
	if err != nil {
		return s.mailboxShow(w, r, u, d, m, err)
	}
	return s.done(w, r, mailboxPath(m), "Alias "+alias+" is added.")
}

func (s *Site) mailboxAliasRemove(w http.ResponseWriter, r *http.Request, _ *user, _ *store.Domain, m *store.Mailbox) error {
	alias := r.PostFormValue("alias")
	for _, own := range m.Aliases { // never another mailbox's
		if own == alias {
			if err := s.Store.RemoveAlias(r.Context(), alias); err != nil {
				return err
			}
			return s.done(w, r, mailboxPath(m), "Alias "+alias+" is removed.")
		}
	}
	return store.ErrNotFound
}

func (s *Site) mailboxAppRemove(w http.ResponseWriter, r *http.Request, _ *user, _ *store.Domain, m *store.Mailbox) error {
	if err := s.Store.RemoveAppPassword(r.Context(), m.Address, r.PostFormValue("label")); err != nil {
		return err
	}
	return s.done(w, r, mailboxPath(m), "The app password is ended.")
}

func (s *Site) mailboxRemoveConfirm(w http.ResponseWriter, r *http.Request, u *user, d *store.Domain, m *store.Mailbox) error {
	p := s.domainPage(r, u, d, "mailboxes")
	p.Title = "Remove " + m.Address
	return render(w, r, http.StatusOK, mailboxRemoveView(p, m))
}

func (s *Site) mailboxRemove(w http.ResponseWriter, r *http.Request, u *user, d *store.Domain, m *store.Mailbox) error {
	if err := s.Store.RemoveMailbox(r.Context(), m.Address); err != nil {
		return err
	}
	s.Log.Info("mailbox removed", "mailbox", m.Address, "login", u.Name)
	return s.done(w, r, domainPath(d.Name)+"/mailboxes", m.Address+" is removed.")
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", store.ErrInvalid, fmt.Sprintf(format, args...))
}
