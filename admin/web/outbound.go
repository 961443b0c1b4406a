package web

import (
	"net/http"
	"strconv"
	"strings"

	"understudy/internal/directory"
	"understudy/internal/store"
)

// outboundPage is who may send as a domain, and how much.
type outboundPage struct {
	page
	Domain   *store.Domain
	Accounts []store.OutboundAccount
	Limits   []limitField
	Name     string // that was typed
}

// limitField is a limit in the form: an empty value is the default.
type limitField struct{ Name, Label, Value string }

// limits are the fields of the form, and what they are of a domain's limits.
var limits = []struct {
	name, label string
	of          func(*directory.SendLimit) *int
}{
	{"mailbox_hour", "Each mailbox, an hour", func(l *directory.SendLimit) *int { return &l.MailboxPerHour }},
	{"mailbox_day", "Each mailbox, a day", func(l *directory.SendLimit) *int { return &l.MailboxPerDay }},
	{"network_hour", "Servers known by their address, an hour", func(l *directory.SendLimit) *int { return &l.NetworkPerHour }},
	{"network_day", "Servers known by their address, a day", func(l *directory.SendLimit) *int { return &l.NetworkPerDay }},
}

func (s *Site) outboundOf(r *http.Request, u *user, d *store.Domain) (outboundPage, error) {
	v := outboundPage{page: s.domainPage(r, u, d, "outbound"), Domain: d}
	var err error
	if v.Accounts, err = s.Store.OutboundAccounts(r.Context(), u.viewer(), d.Name); err != nil {
		return v, err
	}
	set, err := s.Store.SendLimits(r.Context(), d.Name)
	for _, x := range limits {
		f := limitField{x.name, x.label, ""}
		if n := *x.of(&set); n > 0 {
			f.Value = strconv.Itoa(n)
		}
		v.Limits = append(v.Limits, f)
	}
	return v, err
}

func (s *Site) outbound(w http.ResponseWriter, r *http.Request, u *user, d *store.Domain) error {
	v, err := s.outboundOf(r, u, d)
	if err != nil {
		return err
	}
	return render(w, r, http.StatusOK, outboundView(v))
}

// outboundAgain shows the page with what was refused.
func (s *Site) outboundAgain(w http.ResponseWriter, r *http.Request, u *user, d *store.Domain, name string, problem error) error {
	if !refused(problem) {
		return problem
	}
	v, err := s.outboundOf(r, u, d)
	if err != nil {
		return err
	}
	v.Name, v.Problem = name, plain(problem)
	for i, x := range limits {
		if r.PostForm.Has(x.name) {
			v.Limits[i].Value = r.PostForm.Get(x.name)
		}
	}
	return render(w, r, http.StatusUnprocessableEntity, outboundView(v))
}

// outboundAdd adds an account of this domain and shows its password once.
func (s *Site) outboundAdd(w http.ResponseWriter, r *http.Request, u *user, d *store.Domain) error {
	if err := r.ParseForm(); err != nil {
		return badForm(err)
	}
	name := strings.TrimSpace(r.PostFormValue("name"))
	plainText, hash, err := s.newPassword()
	if err == nil {
		err = s.Store.AddOutboundAccount(r.Context(), store.NewOutboundAccount{Name: name, Domains: []string{d.Name}, Hash: hash})
	}
	if err != nil {
		return s.outboundAgain(w, r, u, d, name, err)
	}
	s.Log.Info("outbound account added", "account", name, "domain", d.Name, "login", u.Name)
	return render(w, r, http.StatusOK, outboundPasswordView(s.domainPage(r, u, d, "outbound"), name, plainText))
}

// ownAccount finds the account of a form. One that sends for domains which
// the user may not see is not the user's to change.
func (s *Site) ownAccount(r *http.Request, u *user, d *store.Domain) (*store.OutboundAccount, error) {
	if err := r.ParseForm(); err != nil {
		return nil, badForm(err)
	}
	all, err := s.Store.OutboundAccounts(r.Context(), u.viewer(), d.Name)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].Name == r.FormValue("name") {
			if !all[i].Mine {
				return nil, errForbidden
			}
			return &all[i], nil
		}
	}
	return nil, store.ErrNotFound
}

func (s *Site) outboundPassword(w http.ResponseWriter, r *http.Request, u *user, d *store.Domain) error {
	x, err := s.ownAccount(r, u, d)
	if err != nil {
		return err
	}
	plainText, hash, err := s.newPassword()
	if err == nil {
		err = s.Store.SetOutboundAccount(r.Context(), x.Name, store.OutboundChange{Hash: &hash})
	}
	if err != nil {
		return err
	}
	s.Log.Info("outbound account's password changed", "account", x.Name, "login", u.Name)
	return render(w, r, http.StatusOK, outboundPasswordView(s.domainPage(r, u, d, "outbound"), x.Name, plainText))
}

func (s *Site) outboundRemoveConfirm(w http.ResponseWriter, r *http.Request, u *user, d *store.Domain) error {
	x, err := s.ownAccount(r, u, d)
	if err != nil {
		return err
	}
	p := s.domainPage(r, u, d, "outbound")
	p.Title = "Remove " + x.Name
	return render(w, r, http.StatusOK, outboundRemoveView(p, x))
}

func (s *Site) outboundRemove(w http.ResponseWriter, r *http.Request, u *user, d *store.Domain) error {
	x, err := s.ownAccount(r, u, d)
	if err != nil {
		return err
	}
	if err := s.Store.RemoveOutboundAccount(r.Context(), x.Name); err != nil {
		return err
	}
	s.Log.Info("outbound account removed", "account", x.Name, "login", u.Name)
	return s.done(w, r, domainPath(d.Name)+"/outbound", x.Name+" is removed.")
}

// outboundLimits: limits are the operator's, who answers for what this host
// sends.
func (s *Site) outboundLimits(w http.ResponseWriter, r *http.Request, u *user, d *store.Domain) error {
	if !u.operator() {
		return errForbidden
	}
	if err := r.ParseForm(); err != nil {
		return badForm(err)
	}
	var l directory.SendLimit
	for _, x := range limits {
		typed := strings.TrimSpace(r.PostFormValue(x.name))
		if typed == "" {
			continue
		}
		n, err := strconv.Atoi(typed)
		if err != nil || n < 0 || n > 1e9 {
			return s.outboundAgain(w, r, u, d, "", invalid("%.40q is no number of recipients", typed))
		}
		*x.of(&l) = n
	}
	if err := s.Store.SetSendLimits(r.Context(), d.Name, l); err != nil {
		return err
	}
	s.Log.Info("limits of sending changed", "domain", d.Name, "login", u.Name)
	return s.done(w, r, domainPath(d.Name)+"/outbound", "Saved. The mail services know it within a second.")
}
