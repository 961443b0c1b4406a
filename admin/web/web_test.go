package web

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"understudy/internal/archive"
	"understudy/internal/archive/ship"
	"understudy/internal/directory"
	"understudy/internal/password/passwordtest"
	"understudy/internal/pgtest"
	"understudy/internal/store"
	"understudy/internal/store/storetest"
)

var cluster *pgtest.Cluster

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if cluster, err = pgtest.Start(); err != nil {
			fmt.Fprintln(os.Stderr, "start PostgreSQL for tests:", err)
			return 1
		}
		defer cluster.Remove()
		defer stopBrowser()
		return m.Run()
	}())
}

const pass = "correct horse battery"

var passHash = passwordtest.Hash(pass)

// testSite is a site on a database of its own: operator "op", domain admins
// "adm" (example.test) and "other" (other.test), and mailboxes ana and bruno
// @example.test and eva@other.test, all with the same password.
type testSite struct {
	*Site
	URL     string
	Archive string // its directory

	Recipients []age.Recipient                // that mail is encrypted for
	Identities atomic.Pointer[[]age.Identity] // that the site has
	Bucket     atomic.Pointer[ship.Bucket]    // that the site reads; nil: none
}

func newTestSite(t *testing.T, c *pgtest.Cluster) *testSite {
	t.Helper()
	s := serveSite(t, storetest.Config(t, c, storetest.Database(t, c)))
	fill(t, s.Store)
	return s
}

// serveSite serves a site on the database of cfg, whatever its state.
func serveSite(t *testing.T, cfg *pgxpool.Config) *testSite {
	t.Helper()
	db, err := store.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	srv, s := httptest.NewUnstartedServer(nil), &testSite{Archive: t.TempDir()}
	site, err := New(Options{Store: db, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Metrics: prometheus.NewRegistry(),
		PublicURL: "http://" + srv.Listener.Addr().String(), WebmailURL: "https://webmail.example.test/", IMAPAddress: "imap.example.test:993",
		SessionLifetime: time.Hour,
		Open: func(ctx context.Context, ref archive.Ref) (*archive.Record, error) {
			r := ship.Reader{Dir: s.Archive, Bucket: s.Bucket.Load()}
			if keys := s.Identities.Load(); keys != nil {
				r.Identities = *keys
			}
			return r.ReadRecord(ctx, ref)
		}})
	if err != nil {
		t.Fatal(err)
	}
	srv.Config.Handler = site.Handler()
	srv.Start()
	t.Cleanup(srv.Close)
	s.Site, s.URL = site, srv.URL
	return s
}

func fill(t *testing.T, db *store.Store) {
	t.Helper()
	ctx := t.Context()
	for _, d := range []string{"example.test", "other.test"} {
		if _, err := db.AddDomain(ctx, directory.Domain{Name: d, Primaries: []string{"127.0.0.1:2525"}, Activation: directory.Automatic}); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range []store.Account{
		{Login: "op", Role: store.Operator, Hash: passHash},
		{Login: "adm", Role: store.DomainAdmin, Hash: passHash, Domains: []string{"example.test"}},
		{Login: "other", Role: store.DomainAdmin, Hash: passHash, Domains: []string{"other.test"}},
	} {
		if err := db.AddAccount(ctx, a); err != nil {
			t.Fatal(err)
		}
	}
	var boxes []store.NewMailbox
	for _, a := range []string{"ana@example.test", "bruno@example.test", "eva@other.test"} {
		boxes = append(boxes, store.NewMailbox{Address: a, Name: strings.ToUpper(a[:1]) + a[1:3], Covered: true, Hash: passHash})
	}
	if err := db.AddMailboxes(ctx, boxes...); err != nil {
		t.Fatal(err)
	}
}

// visitor is a browser without a screen.
type visitor struct {
	t      *testing.T
	base   string
	client *http.Client
}

func (s *testSite) visitor(t *testing.T) *visitor {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &visitor{t, s.URL, &http.Client{Jar: jar, Timeout: 3 * time.Minute}}
}

// signedIn returns a visitor who has signed in.
func (s *testSite) as(t *testing.T, login string) *visitor {
	t.Helper()
	v := s.visitor(t)
	if status, body := v.signIn(login, pass); status != http.StatusOK || !strings.Contains(body, `data-testid="sign-out"`) {
		t.Fatalf("sign in as %s: %d\n%s", login, status, body)
	}
	return v
}

func (v *visitor) signIn(login, plain string) (int, string) {
	v.t.Helper()
	return v.post("/login", "login", login, "password", plain)
}

func (v *visitor) get(path string) (int, string) {
	v.t.Helper()
	req, err := http.NewRequestWithContext(v.t.Context(), http.MethodGet, v.base+path, nil)
	if err != nil {
		v.t.Fatal(err)
	}
	return v.do(req)
}

// post sends a form of pairs, as a page of the site would.
func (v *visitor) post(path string, pairs ...string) (int, string) {
	v.t.Helper()
	form := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		form.Add(pairs[i], pairs[i+1])
	}
	req, err := http.NewRequestWithContext(v.t.Context(), http.MethodPost, v.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		v.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	return v.do(req)
}

func (v *visitor) do(req *http.Request) (int, string) {
	v.t.Helper()
	resp, err := v.client.Do(req)
	if err != nil {
		v.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func has(t *testing.T, body string, texts ...string) {
	t.Helper()
	for _, x := range texts {
		if !strings.Contains(body, x) {
			t.Errorf("page lacks %q:\n%s", x, body)
		}
	}
}

func lacks(t *testing.T, body string, texts ...string) {
	t.Helper()
	for _, x := range texts {
		if strings.Contains(body, x) {
			t.Errorf("page has %q:\n%s", x, body)
		}
	}
}
