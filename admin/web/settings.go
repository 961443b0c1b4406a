package web

import (
	"net/http"
	"slices"
	"strings"

	"understudy/internal/directory"
	"understudy/internal/store"
)

// settingsPage shows a domain's settings, or what was typed and refused.
type settingsPage struct {
	page
	Domain     *store.Domain
	Primaries  string // one a line
	Networks   string // one a line
	Activation string
	Scope      string
	Retention  string // days
	Detection  store.Detection
}

func (s *Site) settingsOf(r *http.Request, u *user, d *store.Domain) settingsPage {
	networks := make([]string, len(d.OutboundNetworks))
	for i, n := range d.OutboundNetworks {
		networks[i] = n.String()
	}
	return settingsPage{page: s.domainPage(r, u, d, "settings"), Domain: d, Primaries: strings.Join(d.Primaries, "\n"),
		Networks: strings.Join(networks, "\n"), Activation: string(d.Activation), Scope: string(d.Scope), Retention: itoa(d.RetentionDays), Detection: store.DetectionOf(&d.Domain)}
}

func (s *Site) settings(w http.ResponseWriter, r *http.Request, u *user, d *store.Domain) error {
	return render(w, r, http.StatusOK, settingsView(s.settingsOf(r, u, d)))
}

// detectionFields are the names of the detector's settings in the form.
var detectionFields = []string{"detect_failures", "detect_storm", "probe_interval", "recover_after"}

// settingsSave: activation, detection and outbound networks are the
// operator's.
func (s *Site) settingsSave(w http.ResponseWriter, r *http.Request, u *user, d *store.Domain) error {
	if err := r.ParseForm(); err != nil {
		return badForm(err)
	}
	if !u.operator() && slices.ContainsFunc(append(detectionFields, "activation", "networks"), r.PostForm.Has) {
		return errForbidden
	}
	v := s.settingsOf(r, u, d)
	v.Primaries, v.Scope, v.Retention = r.PostFormValue("primaries"), r.PostFormValue("scope"), r.PostFormValue("retention")
	if u.operator() {
		v.Activation, v.Networks = r.PostFormValue("activation"), r.PostFormValue("networks")
		for i, field := range []*string{&v.Detection.Failures, &v.Detection.Storm, &v.Detection.ProbeInterval, &v.Detection.RecoverAfter} {
			if r.PostForm.Has(detectionFields[i]) {
				*field = r.PostFormValue(detectionFields[i])
			}
		}
	}
	change, err := v.change(u.operator())
	change.Actor = u.Name
	if err == nil {
		_, err = s.Store.SetDomain(r.Context(), d.Name, change)
	}
	if err != nil {
		if !refused(err) {
			return err
		}
		v.Problem = plain(err)
		return render(w, r, http.StatusUnprocessableEntity, settingsView(v))
	}
	s.Log.Info("domain settings changed", "domain", d.Name, "login", u.Name)
	return s.done(w, r, domainPath(d.Name)+"/settings", "Saved. The mail services know it within a second.")
}

func (v *settingsPage) change(operator bool) (store.DomainChange, error) {
	scope := directory.Scope(v.Scope)
	days, err := store.ParseRetention(v.Retention)
	c := store.DomainChange{Primaries: lines(v.Primaries), Scope: &scope, RetentionDays: &days}
	if err != nil || !operator {
		return c, err
	}
	activation := directory.Activation(v.Activation)
	c.Activation = &activation
	if c.OutboundNetworks, err = store.ParseNetworks(lines(v.Networks)); err != nil {
		return c, err
	}
	x := &v.Detection
	return c, c.SetDetection(&x.Failures, &x.Storm, &x.ProbeInterval, &x.RecoverAfter)
}

// lines splits what was typed at line breaks, commas and spaces. It is never
// nil.
func lines(s string) []string {
	return append([]string{}, strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' || r == ',' || r == ' ' })...)
}
