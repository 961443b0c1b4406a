package web

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"understudy/internal/address"
	"understudy/internal/password"
	"understudy/internal/store"
)

const mailboxesPerPage = 50

// mailboxesPage is one page of a domain's mailboxes.
type mailboxesPage struct {
	page
	Domain *store.Domain
	Search string
	List   []store.Mailbox
	Next   string // URL of the next page; "" is none
	First  string // URL of the first page, when this is another
	New    newMailbox
}

// newMailbox is what was typed into the form.
type newMailbox struct{ Local, Name string }

func (s *Site) mailboxesOf(r *http.Request, u *user, d *store.Domain) (mailboxesPage, error) {
	v := mailboxesPage{page: s.domainPage(r, u, d, "mailboxes"), Domain: d, Search: strings.TrimSpace(r.URL.Query().Get("q"))}
	after := r.URL.Query().Get("after")
	list, err := s.Store.Mailboxes(r.Context(), u.viewer(), store.MailboxQuery{Domain: d.Name, Search: v.Search, After: after, Limit: mailboxesPerPage + 1})
	if err != nil {
		return v, err
	}
	base := domainPath(d.Name) + "/mailboxes?"
	if after != "" {
		v.First = base + url.Values{"q": {v.Search}}.Encode()
	}
	if len(list) > mailboxesPerPage {
		list = list[:mailboxesPerPage]
		v.Next = base + url.Values{"q": {v.Search}, "after": {list[len(list)-1].Address}}.Encode()
	}
	v.List = list
	return v, nil
}

func (s *Site) mailboxes(w http.ResponseWriter, r *http.Request, u *user, d *store.Domain) error {
	v, err := s.mailboxesOf(r, u, d)
	if err != nil {
		return err
	}
	return render(w, r, http.StatusOK, mailboxesView(v))
}

// mailboxAdd registers a mailbox and shows its one-time password.
func (s *Site) mailboxAdd(w http.ResponseWriter, r *http.Request, u *user, d *store.Domain) error {
	if err := r.ParseForm(); err != nil {
		return badForm(err)
	}
	form := newMailbox{Local: strings.TrimSpace(r.PostFormValue("local")), Name: strings.TrimSpace(r.PostFormValue("name"))}
	addr, err := ownAddress(form.Local, d)
	var plainText, hash string
	if err == nil {
		plainText, hash, err = s.newPassword()
	}
	if err == nil {
		err = s.Store.AddMailboxes(r.Context(), store.NewMailbox{Address: addr, Name: form.Name, Covered: r.PostFormValue("covered") != "", Hash: hash})
	}
	if err != nil {
		if !refused(err) {
			return err
		}
		v, listErr := s.mailboxesOf(r, u, d)
		if listErr != nil {
			return listErr
		}
		v.New, v.Problem = form, plain(err)
		return render(w, r, http.StatusUnprocessableEntity, mailboxesView(v))
	}
	s.Log.Info("mailbox added", "mailbox", addr, "login", u.Name)
	return s.showPassword(w, r, u, d, addr, plainText)
}

// newPassword makes a password that a person gives to another.
func (s *Site) newPassword() (plainText, hash string, err error) {
	if plainText, _, err = password.NewApp(); err != nil {
		return "", "", err
	}
	hash, err = password.Hash(plainText)
	return plainText, hash, err
}

// showPassword shows a password once: it is stored nowhere, not in the
// session either, so this is no redirect.
func (s *Site) showPassword(w http.ResponseWriter, r *http.Request, u *user, d *store.Domain, addr, plainText string) error {
	p := s.domainPage(r, u, d, "mailboxes")
	return render(w, r, http.StatusOK, passwordView(p, addr, plainText))
}

// ownAddress completes what was typed to an address of the domain: "ana" or
// "ana@example.org".
func ownAddress(typed string, d *store.Domain) (string, error) {
	if !strings.Contains(typed, "@") {
		typed += "@" + d.Name
	}
	a, err := address.Parse(typed)
	switch {
	case err != nil || a.IsZero() || a.Local == "":
		return "", invalid("%.80q is no address; write it as name@%s", typed, d.Name)
	case a.Domain != d.Name:
		return "", invalid("the address is of %s, not of %s", a.Domain, d.Name)
	case a.Detail != "":
		return "", invalid("leave out +%.40s; such addresses reach the mailbox by themselves", a.Detail)
	}
	return a.String(), nil
}

func itoa[T int | int64](n T) string { return strconv.FormatInt(int64(n), 10) }

func domainPath(name string) string { return "/domains/" + url.PathEscape(name) }

func mailboxPath(m *store.Mailbox) string {
	return domainPath(m.Domain) + "/mailboxes/" + url.PathEscape(m.Address)
}
