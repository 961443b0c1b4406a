package web

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"understudy/admin/wording"
	"understudy/internal/directory"
	"understudy/internal/store"
)

const (
	timelineLines = 50
	heldLines     = 50
)

// overview is all about one domain's mode.
type overview struct {
	page
	Domain   *store.Domain
	Text     string         // where mail goes, since when and why
	Network  *store.Vantage // nil, or what people should know of the worker's own network
	Health   []primaryHealth
	Timeline []wording.Entry
	Drain    *store.DrainState
}

// primaryHealth is one primary as the page shows it.
type primaryHealth struct {
	Host    string
	Known   *store.HostHealth // nil: not checked yet
	Meaning string
	Good    bool
}

func (s *Site) overview(w http.ResponseWriter, r *http.Request, u *user, d *store.Domain) error {
	v := overview{page: s.domainPage(r, u, d, "overview"), Domain: d}
	changes, err := s.Store.Timeline(r.Context(), d.Name, timelineLines)
	if err != nil {
		return err
	}
	episodes, err := s.Store.NetworkEpisodes(r.Context(), d.Name, timelineLines)
	if err != nil {
		return err
	}
	health, err := s.Store.Health(r.Context(), d.Name)
	if err != nil {
		return err
	}
	if v.Drain, err = s.Store.DrainState(r.Context(), d.Name, heldLines); err != nil {
		return err
	}
	network, err := s.Store.Vantage(r.Context())
	if err != nil {
		return err
	}
	if network.Unusual() {
		v.Network = network
	}
	v.Text = wording.Mode(&d.Domain, changes)
	v.Timeline = wording.Timeline(changes, episodes, timelineLines)
	v.Health = primaries(d, health)
	return render(w, r, http.StatusOK, overviewView(v))
}

// primaries joins the settings with what the worker saw.
func primaries(d *store.Domain, health []store.HostHealth) []primaryHealth {
	out := make([]primaryHealth, len(d.Primaries))
	for i, host := range d.Primaries {
		out[i] = primaryHealth{Host: host, Meaning: "Not checked yet."}
		if at := slices.IndexFunc(health, func(h store.HostHealth) bool { return h.Host == host }); at >= 0 {
			out[i].Known, out[i].Good = &health[at], health[at].Class == "healthy"
			out[i].Meaning = wording.Health(health[at].Class)
		}
	}
	return out
}

func (s *Site) drainRetry(w http.ResponseWriter, r *http.Request, _ *user, d *store.Domain) error {
	if d.Mode == directory.Emergency {
		return fmt.Errorf("%w: %s is in emergency: its mail stays in the portal until the domain is back to normal", store.ErrConflict, d.Name)
	}
	n, err := s.Store.Retry(r.Context(), d.Name)
	if err != nil {
		return err
	}
	return s.done(w, r, domainPath(d.Name), fmt.Sprintf("%d held messages are tried again.", n))
}

// utc writes a time exactly, for people.
func utc(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// machine writes a time for the datetime attribute.
func machine(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// evidence is a timeline entry's JSON in readable form; "" when there is none.
func evidence(raw json.RawMessage) string {
	var b bytes.Buffer
	if len(raw) <= 2 || json.Indent(&b, raw, "", "  ") != nil {
		return ""
	}
	return b.String()
}
