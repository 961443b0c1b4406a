package web

import (
	"fmt"
	"net/http"
	"strings"

	"understudy/internal/store"
)

const offersPerPage = 100

// recipientsPage is what the mail server of a domain says of its addresses.
type recipientsPage struct {
	page
	Domain   *store.Domain
	Known    *store.RecipientDomain
	Offers   []store.Offer
	More     bool // there are more offers than are shown
	Refusals []store.Refusal
}

func (s *Site) recipients(w http.ResponseWriter, r *http.Request, u *user, d *store.Domain) error {
	v := recipientsPage{page: s.domainPage(r, u, d, "recipients"), Domain: d}
	var err error
	if v.Known, err = s.Store.RecipientDomain(r.Context(), d.Name); err != nil {
		return err
	}
	if v.Offers, err = s.Store.Offers(r.Context(), d.Name, "", offersPerPage+1); err != nil {
		return err
	}
	if v.More = len(v.Offers) > offersPerPage; v.More {
		v.Offers = v.Offers[:offersPerPage]
	}
	if v.Refusals, err = s.Store.Refusals(r.Context(), d.Name); err != nil {
		return err
	}
	return render(w, r, http.StatusOK, recipientsView(v))
}

// recipientsAccept registers the address of the form, or without one all that
// are offered.
func (s *Site) recipientsAccept(w http.ResponseWriter, r *http.Request, u *user, d *store.Domain) error {
	if err := r.ParseForm(); err != nil {
		return badForm(err)
	}
	var addresses []string
	if r.PostFormValue("all") == "" {
		addresses = []string{r.PostFormValue("address")}
	}
	added, err := s.Store.AcceptOffers(r.Context(), d.Name, addresses...)
	if err != nil {
		return err
	}
	s.Log.Info("offered mailboxes added", "domain", d.Name, "mailboxes", len(added), "login", u.Name)
	what := fmt.Sprintf("%d mailboxes are added", len(added))
	if len(added) == 1 {
		what = added[0] + " is added"
	}
	return s.done(w, r, domainPath(d.Name)+"/recipients", what+", without a password. People can sign in as soon as they are given one under Mailboxes.")
}

func (s *Site) recipientsIgnore(w http.ResponseWriter, r *http.Request, u *user, d *store.Domain) error {
	if err := r.ParseForm(); err != nil {
		return badForm(err)
	}
	address := r.PostFormValue("address")
	if err := s.Store.IgnoreOffer(r.Context(), d.Name, address); err != nil {
		return err
	}
	return s.done(w, r, domainPath(d.Name)+"/recipients", address+" will not be offered again.")
}

func (s *Site) recipientsLearn(w http.ResponseWriter, r *http.Request, u *user, d *store.Domain) error {
	if err := r.ParseForm(); err != nil {
		return badForm(err)
	}
	learn := store.Learn(strings.TrimSpace(r.PostFormValue("learn")))
	if err := s.Store.SetLearn(r.Context(), d.Name, learn); err != nil {
		return err
	}
	s.Log.Info("learning of recipients changed", "domain", d.Name, "learn", string(learn), "login", u.Name)
	return s.done(w, r, domainPath(d.Name)+"/recipients", "Saved.")
}
