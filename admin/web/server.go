// Package web is Understudy's website and JSON API: where operators, domain
// admins and mailbox owners see where mail goes, and switch it.
//
// Pages are plain HTML forms without scripts: a handler and its view_*.templ
// beside it. Who may see what is decided by the store's queries: what is not
// one's own does not exist (404). The API is described in admin/API.md.
//
// When PostgreSQL does not answer, each request ends within requestTime with
// status 503 and a page that says that mail is not affected; the process
// keeps running, and works again as soon as the database does. When the bucket
// that has a message does not answer, that is said, and all else works.
package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/prometheus/client_golang/prometheus"

	"understudy/internal/archive"
	"understudy/internal/mime"
	"understudy/internal/password"
	"understudy/internal/store"
)

const (
	// requestTime bounds all that a request does, but for opening a message.
	requestTime = 5 * time.Second
	healthTime  = 2 * time.Second
	cleanEvery  = 10 * time.Minute
	maxForm     = 256 << 10 // bytes
)

// Options is what the website needs.
type Options struct {
	Store             *store.Store
	Log               *slog.Logger
	Metrics           prometheus.Registerer
	PublicURL         string // how browsers reach the site; https makes cookies Secure
	WebmailURL        string // shown to mailbox owners; may be empty
	IMAPAddress       string // the same: host:port
	SubmissionAddress string // the same: host:port
	SessionLifetime   time.Duration
	// Open reads a message of the archive; ctx is for opening it alone. When it
	// is in a bucket that does not answer the error is a ship.StoreError.
	Open func(ctx context.Context, ref archive.Ref) (*archive.Record, error)
}

// Site serves the pages and the API.
type Site struct {
	Options
	https    bool
	sessions *scs.SessionManager
	verifier *password.Verifier
	opener   *mime.Opener
	throttle *throttle
	origin   *http.CrossOriginProtection
	signIns  *prometheus.CounterVec
	requests *prometheus.HistogramVec
}

// New prepares the site. It does not ask the database anything.
func New(o Options) (*Site, error) {
	public, err := url.Parse(o.PublicURL)
	if err != nil || public.Host == "" {
		return nil, fmt.Errorf("public URL %q: want https://HOST", o.PublicURL)
	}
	s := &Site{Options: o, https: public.Scheme == "https", verifier: password.NewVerifier(0, 64), opener: mime.NewOpener(), throttle: newThrottle(time.Now)}
	s.sessions = scs.New()
	s.sessions.Store = o.Store.Sessions()
	s.sessions.Lifetime = o.SessionLifetime
	s.sessions.HashTokenInStore = true
	s.sessions.ErrorFunc = s.fail
	s.sessions.Cookie.Name = "understudy"
	if s.sessions.Cookie.Secure = s.https; s.https {
		s.sessions.Cookie.Name = "__Host-understudy" // bound to this host by the browser (RFC 6265bis section 4.1.3)
	}
	s.sessions.Cookie.HttpOnly = true
	s.sessions.Cookie.SameSite = http.SameSiteLaxMode
	s.sessions.Cookie.Persist = false
	s.origin = http.NewCrossOriginProtection()
	if err := s.origin.AddTrustedOrigin(public.Scheme + "://" + public.Host); err != nil {
		return nil, fmt.Errorf("public URL %q: %w", o.PublicURL, err)
	}
	s.origin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.errorPage(w, r, http.StatusForbidden, "This request came from another website", "Open this site anew and try again.")
	}))
	s.signIns = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "understudy_admin_sign_ins_total",
		Help: "Sign-ins by result: ok, wrong, throttled, busy."}, []string{"result"})
	s.requests = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "understudy_admin_request_seconds",
		Help: "Time of requests by status.", Buckets: []float64{.005, .02, .1, .5, 1, 2, 5, 10}}, []string{"status"})
	for _, c := range []prometheus.Collector{s.signIns, s.requests} {
		if err := o.Metrics.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return s, nil
}

// Handler is the whole site.
func (s *Site) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.Handle("GET /static/", static())
	mux.Handle("/api/", s.api())
	mux.Handle("/", s.sessions.LoadAndSave(s.pages()))
	return s.observe(secure(s.https, s.bounded(s.origin.Handler(mux))))
}

// pages are the routes for browsers.
func (s *Site) pages() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /login", s.handle(s.loginForm))
	mux.HandleFunc("POST /login", s.handle(s.login))
	mux.HandleFunc("POST /logout", s.handle(s.logout))
	mux.HandleFunc("GET /{$}", s.signedIn(s.home))
	mux.HandleFunc("GET /me", s.signedIn(s.own))
	mux.HandleFunc("POST /me/password", s.signedIn(s.ownPassword))
	mux.HandleFunc("POST /me/app-passwords", s.signedIn(s.ownAppAdd))
	mux.HandleFunc("POST /me/app-passwords/remove", s.signedIn(s.ownAppRemove))
	mux.HandleFunc("GET /archive", s.signedIn(s.archive))
	mux.HandleFunc("GET /archive/redeliver", s.signedIn(s.redeliverConfirm))
	mux.HandleFunc("POST /archive/redeliver", s.signedIn(s.redeliver))
	mux.HandleFunc("GET /redeliveries", s.signedIn(s.redeliveries))
	mux.HandleFunc("GET /redeliveries/{id}", s.signedIn(s.redelivery))
	mux.HandleFunc("GET /archive/{message}", s.inMessage(s.message))
	mux.HandleFunc("GET /archive/{message}/frame", s.inMessage(s.messageFrame))
	mux.HandleFunc("GET /archive/{message}/source", s.inMessage(s.messageSource))
	mux.HandleFunc("GET /archive/{message}/download", s.inMessage(s.messageDownload))
	mux.HandleFunc("GET /archive/{message}/files/{number}", s.inMessage(s.messageFile))
	for pattern, h := range map[string]domainHandler{
		"GET /domains/{domain}/audit":                                  s.audit,
		"GET /domains/{domain}":                                        s.overview,
		"GET /domains/{domain}/switch":                                 s.switchConfirm,
		"POST /domains/{domain}/mode":                                  s.switchMode,
		"POST /domains/{domain}/drain/retry":                           s.drainRetry,
		"GET /domains/{domain}/settings":                               s.settings,
		"POST /domains/{domain}/settings":                              s.settingsSave,
		"GET /domains/{domain}/mailboxes":                              s.mailboxes,
		"POST /domains/{domain}/mailboxes":                             s.mailboxAdd,
		"GET /domains/{domain}/recipients":                             s.recipients,
		"POST /domains/{domain}/recipients/accept":                     s.recipientsAccept,
		"POST /domains/{domain}/recipients/ignore":                     s.recipientsIgnore,
		"POST /domains/{domain}/recipients/learn":                      s.recipientsLearn,
		"GET /domains/{domain}/outbound":                               s.outbound,
		"POST /domains/{domain}/outbound":                              s.outboundAdd,
		"POST /domains/{domain}/outbound/password":                     s.outboundPassword,
		"GET /domains/{domain}/outbound/remove":                        s.outboundRemoveConfirm,
		"POST /domains/{domain}/outbound/remove":                       s.outboundRemove,
		"POST /domains/{domain}/outbound/limits":                       s.outboundLimits,
		"GET /domains/{domain}/mailboxes/{mailbox}":                    s.inMailbox(s.mailbox),
		"POST /domains/{domain}/mailboxes/{mailbox}":                   s.inMailbox(s.mailboxSave),
		"POST /domains/{domain}/mailboxes/{mailbox}/password":          s.inMailbox(s.mailboxPassword),
		"POST /domains/{domain}/mailboxes/{mailbox}/aliases":           s.inMailbox(s.mailboxAliasAdd),
		"POST /domains/{domain}/mailboxes/{mailbox}/aliases/remove":    s.inMailbox(s.mailboxAliasRemove),
		"POST /domains/{domain}/mailboxes/{mailbox}/app-passwords/end": s.inMailbox(s.mailboxAppRemove),
		"GET /domains/{domain}/mailboxes/{mailbox}/remove":             s.inMailbox(s.mailboxRemoveConfirm),
		"POST /domains/{domain}/mailboxes/{mailbox}/remove":            s.inMailbox(s.mailboxRemove),
	} {
		mux.HandleFunc(pattern, s.inDomain(h))
	}
	mux.HandleFunc("/", s.handle(func(http.ResponseWriter, *http.Request) error { return store.ErrNotFound }))
	return mux
}

// Health reports nil when the database answers and its schema fits.
func (s *Site) Health() error {
	ctx, cancel := context.WithTimeout(context.Background(), healthTime)
	defer cancel()
	return s.Store.Ready(ctx)
}

func (s *Site) healthz(w http.ResponseWriter, _ *http.Request) {
	if err := s.Health(); err != nil {
		// The cause, which may name hosts, is for the log and the private endpoint.
		text := "the database does not answer"
		if errors.Is(err, store.ErrSchema) {
			text = store.ErrSchema.Error()
		}
		http.Error(w, text, http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// Clean forgets expired sessions from time to time until ctx ends.
func (s *Site) Clean(ctx context.Context) {
	tick := time.NewTicker(cleanEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			clean, cancel := context.WithTimeout(ctx, 30*time.Second)
			if err := s.Store.Sessions().DeleteExpired(clean); err != nil {
				s.Log.Warn("delete expired sessions; trying again later", "error", err)
			}
			cancel()
		}
	}
}
