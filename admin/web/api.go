package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"understudy/internal/address"
	"understudy/internal/directory"
	"understudy/internal/password"
	"understudy/internal/store"
)

// apiDomain is a domain as the API tells of it; the last two are only of a
// single domain.
type apiDomain struct {
	Name           string               `json:"name"`
	Mode           directory.Mode       `json:"mode"`
	Since          time.Time            `json:"since"`
	Manual         bool                 `json:"manual"` // only a person ends this emergency
	Activation     directory.Activation `json:"activation"`
	Scope          directory.Scope      `json:"scope"`
	PrimaryFailing bool                 `json:"primary_failing"`
	Mailboxes      int                  `json:"mailboxes"`
	Primaries      []string             `json:"primaries"`
	Health         []store.HostHealth   `json:"health,omitempty"`
	Timeline       []store.ModeChange   `json:"timeline,omitempty"`

	NetworkEpisodes []store.NetworkEpisode `json:"network_episodes,omitempty"`
}

func apiDomainOf(d *store.Domain) apiDomain {
	return apiDomain{Name: d.Name, Mode: d.Mode, Since: d.ModeSince.UTC(), Manual: d.ModeManual, Activation: d.Activation, Scope: d.Scope,
		PrimaryFailing: d.PrimaryFailing, Mailboxes: d.Mailboxes, Primaries: d.Primaries}
}

// api are the routes below /api/: JSON, HTTP Basic authentication of an
// account (RFC 7617), the same rights as on the pages.
func (s *Site) api() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/domains", s.asAccount(s.apiDomains))
	mux.HandleFunc("GET /api/domains/{domain}", s.asAccount(s.apiDomain))
	mux.HandleFunc("POST /api/domains/{domain}/mode", s.asAccount(s.apiMode))
	mux.HandleFunc("GET /api/archive", s.asAccount(s.apiArchive))
	mux.HandleFunc("GET /api/archive/{message}/source", s.asAccount(s.apiSource))
	mux.HandleFunc("/api/", s.asAccount(func(http.ResponseWriter, *http.Request, *user) error { return store.ErrNotFound }))
	return mux
}

// asAccount runs h for the account whose login and password came along.
func (s *Site) asAccount(h userHandler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		u, err := s.apiUser(w, r)
		if err == nil {
			err = h(w, r, u)
		}
		if err != nil {
			s.apiFail(w, r, err)
		}
	}
}

func (s *Site) apiUser(w http.ResponseWriter, r *http.Request) (*user, error) {
	login, plainText, ok := r.BasicAuth()
	if !ok {
		return nil, errWrong
	}
	u, wait, err := s.authenticate(r.Context(), login, plainText, clientAddress(r))
	if wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(wait.Seconds())))
	}
	if err == nil && u.account == nil {
		return nil, errForbidden
	}
	return u, err
}

func (s *Site) apiFail(w http.ResponseWriter, r *http.Request, err error) {
	status, text := http.StatusUnauthorized, "login or password is wrong"
	switch {
	case errors.Is(err, errWrong):
		w.Header().Set("WWW-Authenticate", `Basic realm="Understudy", charset="UTF-8"`)
	case errors.Is(err, errThrottled):
		status, text = http.StatusTooManyRequests, "too many attempts; see Retry-After"
	case errors.Is(err, errForbidden):
		status, text = http.StatusForbidden, "the API is for accounts, not for mailboxes"
	case errors.Is(err, store.ErrNotFound):
		status, text = http.StatusNotFound, "not found"
	case errors.Is(err, password.ErrBusy):
		status, text = http.StatusServiceUnavailable, err.Error()
	default:
		var title string
		status, title, text = s.verdict(r, err)
		if status != http.StatusUnprocessableEntity {
			text = title
		}
	}
	writeJSON(w, status, map[string]string{"error": text})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) //nolint:errcheck // the client is gone
}

func (s *Site) apiDomains(w http.ResponseWriter, r *http.Request, u *user) error {
	domains, err := s.Store.Domains(r.Context(), u.viewer())
	if err != nil {
		return err
	}
	out := make([]apiDomain, len(domains))
	for i := range domains {
		out[i] = apiDomainOf(&domains[i])
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

func (s *Site) apiFind(r *http.Request, u *user) (*store.Domain, error) {
	name, err := address.Domain(r.PathValue("domain"))
	if err != nil {
		return nil, store.ErrNotFound
	}
	return s.Store.Domain(r.Context(), u.viewer(), name)
}

func (s *Site) apiDomain(w http.ResponseWriter, r *http.Request, u *user) error {
	d, err := s.apiFind(r, u)
	if err != nil {
		return err
	}
	out := apiDomainOf(d)
	if out.Health, err = s.Store.Health(r.Context(), d.Name); err != nil {
		return err
	}
	if out.Timeline, err = s.Store.Timeline(r.Context(), d.Name, timelineLines); err != nil {
		return err
	}
	if out.NetworkEpisodes, err = s.Store.NetworkEpisodes(r.Context(), d.Name, timelineLines); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

func (s *Site) apiMode(w http.ResponseWriter, r *http.Request, u *user) error {
	d, err := s.apiFind(r, u)
	if err != nil {
		return err
	}
	var body struct {
		Mode   string `json:"mode"`
		Reason string `json:"reason"`
	}
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&body); err != nil {
		return fmt.Errorf("%w: the body: want {\"mode\": \"emergency\", \"reason\": \"...\"}: %v", store.ErrInvalid, err)
	}
	to, reason, err := switchWanted(body.Mode, body.Reason)
	if err != nil {
		return err
	}
	changed, err := s.switchBy(r, u, d, to, reason)
	if err != nil {
		return err
	}
	if d, err = s.apiFind(r, u); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, struct {
		Changed bool `json:"changed"`
		apiDomain
	}{changed, apiDomainOf(d)})
	return nil
}
