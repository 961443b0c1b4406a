package web

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"understudy/internal/directory"
	"understudy/internal/store"
)

func TestSwitchAndBack(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	v := s.as(t, "adm")
	_, body := v.get("/domains/example.test")
	has(t, body, "Mail for example.test goes to its own mail server", "Not checked yet", "The mode was never changed")
	_, body = v.get("/domains/example.test/switch?to=emergency&reason=power+cut+%3Cb%3E")
	has(t, body, "Switch example.test to emergency?", "every registered mailbox", "power cut &lt;b&gt;")
	if d, err := s.Store.Domain(t.Context(), store.Everything, "example.test"); err != nil || d.Mode != directory.Normal {
		t.Fatalf("the question alone switched: %+v, %v", d, err)
	}
	_, body = v.post("/domains/example.test/mode", "to", "emergency", "reason", "power cut <b>")
	has(t, body, "example.test is in emergency now", "goes to the portal since", "because adm switched it: power cut &lt;b&gt;", "It stays so until a person switches back")
	entry := regexp.MustCompile(`<time datetime="\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z">\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC</time> *<strong>normal → emergency</strong>`)
	if !entry.MatchString(body) {
		t.Errorf("no exact timeline entry:\n%s", body)
	}
	_, body = v.get("/")
	has(t, body, "by hand: only a person ends it")
	_, body = v.get("/domains/example.test/switch?to=emergency&reason=again")
	has(t, body, "is in emergency already. Nothing was changed.")
	_, body = v.post("/domains/example.test/mode", "to", "normal", "reason", "power is back")
	has(t, body, "example.test is in normal now", "emergency → normal", "power is back")
	for _, bad := range []string{"/switch?to=sideways", "/switch", "/switch?to=normal&reason=" + strings.Repeat("x", 501)} {
		if status, _ := v.get("/domains/example.test" + bad); status != 422 {
			t.Errorf("%.40s: %d, want 422", bad, status)
		}
	}
}

func TestKeepAutomaticEmergency(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	_, err := s.Store.SwitchMode(t.Context(), store.Switch{Domain: "example.test", To: directory.Emergency, Actor: "detector", Reason: "3 of 3 connects refused", Evidence: map[string]int{"refused": 3}})
	if err != nil {
		t.Fatal(err)
	}
	v := s.as(t, "op")
	_, body := v.get("/domains/example.test")
	has(t, body, "because it was detected: 3 of 3 connects refused.", "It goes back by itself", "&#34;refused&#34;: 3", `data-testid="hold"`)
	_, body = v.get("/domains/example.test/switch?to=emergency&reason=hold")
	has(t, body, "Keep example.test in emergency?")
	_, body = v.post("/domains/example.test/mode", "to", "emergency", "reason", "hold")
	has(t, body, "From now on only a person ends it")
}

// TestOthersDoNotExist asks for everything of a domain that is not one's own.
func TestOthersDoNotExist(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	for _, login := range []string{"adm", "ana@example.test"} {
		v := s.as(t, login)
		if _, body := v.get("/"); strings.Contains(body, "other.test") {
			t.Errorf("%s sees other.test in the list", login)
		}
		for _, path := range []string{"", "/switch?to=emergency", "/settings", "/mailboxes", "/mailboxes/eva@other.test", "/mailboxes/eva@other.test/remove", "/mailboxes/ana@example.test"} {
			if status, body := v.get("/domains/other.test" + path); status != 404 || strings.Contains(body, "eva@") {
				t.Errorf("%s GET %s: %d", login, path, status)
			}
		}
		for _, path := range []string{"/mode", "/settings", "/drain/retry", "/mailboxes", "/mailboxes/eva@other.test", "/mailboxes/eva@other.test/password", "/mailboxes/eva@other.test/remove", "/mailboxes/eva@other.test/aliases"} {
			if status, _ := v.post("/domains/other.test"+path, "to", "emergency", "password", "a new password", "local", "x", "alias", "y"); status != 404 {
				t.Errorf("%s POST %s: %d", login, path, status)
			}
		}
		// Through one's own domain neither.
		if status, _ := v.post("/domains/example.test/mailboxes/eva@other.test/remove"); status != 404 {
			t.Errorf("%s removes through another domain: %d", login, status)
		}
	}
	if status, _ := s.as(t, "ana@example.test").get("/domains/example.test"); status != 404 {
		t.Errorf("a mailbox owner sees the domain's page: %d", status)
	}
	d, err := s.Store.Domain(t.Context(), store.Everything, "other.test")
	if err != nil || d.Mode != directory.Normal || d.Mailboxes != 1 {
		t.Errorf("other.test was changed: %+v, %v", d, err)
	}
	// Rights are those of now, not of the sign-in.
	v := s.as(t, "adm")
	if err := s.Store.SetAccount(t.Context(), "adm", store.AccountChange{Domains: []string{"other.test"}}); err != nil {
		t.Fatal(err)
	}
	if status, _ := v.get("/domains/example.test"); status != 404 {
		t.Errorf("a right that was taken is still there: %d", status)
	}
	if status, _ := v.get("/domains/other.test"); status != 200 {
		t.Errorf("a right that was given is not there: %d", status)
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	adm, op := s.as(t, "adm"), s.as(t, "op")
	_, body := adm.get("/domains/example.test/settings")
	has(t, body, "127.0.0.1:2525", `data-testid="activation-shown"`, "mx:NAME")
	lacks(t, body, `name="activation"`, `name="networks"`)
	_, body = adm.post("/domains/example.test/settings", "primaries", "mx1.example.test:25\r\nmx2.example.test:25", "scope", "selected", "retention", "30")
	has(t, body, "Saved.", "mx2.example.test:25", `value="30"`, "hides older messages at once and removes them after 7 days")
	_, body = adm.get("/domains/example.test/audit")
	has(t, body, "set how long mail is kept (30 days, not 90)", ">example.test</td>")
	lacks(t, body, `href="/archive/00000000`)
	if status, _ := adm.post("/domains/example.test/settings", "primaries", "a:1", "scope", "all", "retention", "30", "activation", "manual"); status != 403 {
		t.Errorf("an admin sets the activation: %d", status)
	}
	status, body := adm.post("/domains/example.test/settings", "primaries", "mx1.example.test", "scope", "all", "retention", "30")
	if status != 422 {
		t.Errorf("status %d, want 422", status)
	}
	has(t, body, "write it as HOST:PORT", ">mx1.example.test</textarea>")
	_, body = op.post("/domains/example.test/settings", "primaries", "mx1.example.test:25", "scope", "all", "retention", "90", "activation", "observe", "networks", "192.0.2.1, 198.51.100.0/24")
	has(t, body, "Saved.", "192.0.2.1/32\n198.51.100.0/24")
	d, err := s.Store.Domain(t.Context(), store.Everything, "example.test")
	if err != nil || d.Activation != directory.Observe || len(d.OutboundNetworks) != 2 || d.RetentionDays != 90 {
		t.Errorf("got %+v, %v", d, err)
	}
	_, body = op.post("/domains/example.test/settings", "primaries", "mx1.example.test:25", "scope", "all", "retention", "90", "activation", "observe", "networks", "",
		"detect_failures", "5", "detect_storm", "default", "probe_interval", "20s", "recover_after", "")
	has(t, body, "Saved.", `name="detect_failures" value="5"`, `name="detect_storm" value="default"`, `name="probe_interval" value="20s"`, `name="recover_after" value="default"`)
	_, body = op.post("/domains/example.test/settings", "primaries", "mx1.example.test:25", "scope", "all", "retention", "90", "activation", "observe", "networks", "", "detect_failures", "many")
	has(t, body, "write a number, or default", `name="detect_failures" value="many"`)
	if status, _ := adm.post("/domains/example.test/settings", "primaries", "a:1", "scope", "all", "retention", "30", "detect_failures", "9"); status != 403 {
		t.Errorf("an admin sets the detector: %d", status)
	}
	_, body = op.post("/domains/example.test/settings", "primaries", "MX:Example.TEST\r\nmx:b.test:2525", "scope", "all", "retention", "90", "activation", "observe", "networks", "")
	has(t, body, "Saved.", ">mx:example.test\nmx:b.test:2525</textarea>")
	_, body = op.post("/domains/example.test/settings", "primaries", "", "scope", "all", "retention", "90", "activation", "observe", "networks", "")
	has(t, body, "a domain needs a primary")
}

// TestOwnNetworkOnThePage: the detector's doubts stand beside the health.
func TestOwnNetworkOnThePage(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	v := s.as(t, "op")
	for _, c := range []struct {
		view  string
		shown bool
	}{{"own-network", true}, {"clear", false}} {
		err := s.Store.SaveVantage(t.Context(), store.Vantage{View: c.view, Detail: "5 of 6 primaries fail at once", Since: time.Now(), CheckedAt: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		_, body := v.get("/domains/example.test")
		if strings.Contains(body, `data-testid="network"`) != c.shown || !strings.Contains(body, "5 of 6 primaries fail at once") {
			t.Errorf("view %s:\n%s", c.view, body)
		}
	}
}

// TestOwnNetworkInTheTimeline: why nobody was switched stands there for good.
func TestOwnNetworkInTheTimeline(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	v := s.as(t, "op")
	at := time.Date(2126, 3, 1, 12, 0, 0, 0, time.UTC) // after the domain was added
	for i, view := range []string{"second-look", "own-network", "clear"} {
		at := at.Add(time.Duration(i) * time.Minute)
		if err := s.Store.SaveVantage(t.Context(), store.Vantage{View: view, Detail: "5 of 6 fail, seen as " + view, Since: at, CheckedAt: at}); err != nil {
			t.Fatal(err)
		}
	}
	_, body := v.get("/domains/example.test")
	has(t, body, `data-testid="timeline-network"`, "our own network was down until 1 March 2126, 12:02 UTC: no domain was switched", "5 of 6 fail, seen as own-network")
	if strings.Contains(body, `data-testid="timeline-empty"`) {
		t.Error("the timeline is said to be empty")
	}
}

func TestDrainOnThePage(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	ctx := t.Context()
	for _, guid := range []string{"a", "b"} {
		k := store.LedgerKey{Mailbox: "ana@example.test", GUID: guid}
		if _, err := s.Store.Begin(ctx, k, "example.test", 4321); err != nil {
			t.Fatal(err)
		}
		step := s.Store.Hold
		if guid == "b" {
			step = s.Store.MarkSent
		}
		if err := step(ctx, k, "552 5.3.4 <too big>"); err != nil {
			t.Fatal(err)
		}
	}
	v := s.as(t, "adm")
	_, body := v.get("/domains/example.test")
	has(t, body, `data-testid="drain-returned">1<`, `data-testid="drain-held">1<`, "552 5.3.4 &lt;too big&gt;", "4321")
	_, body = v.post("/domains/example.test/drain/retry")
	has(t, body, "1 held messages are tried again", `data-testid="drain-held">0<`, "A drain is under way")
}

func TestHeadersOfEveryAnswer(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	for _, path := range []string{"/login", "/nonsense", "/static/app.css", "/healthz", "/api/domains", "/api/nonsense"} {
		resp, err := http.Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		for header, want := range map[string]string{"Content-Security-Policy": csp, "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "same-origin"} {
			if got := resp.Header.Get(header); got != want {
				t.Errorf("%s: %s is %q", path, header, got)
			}
		}
	}
}

func TestCookie(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	for _, c := range []struct{ url, want string }{
		{s.PublicURL, `^understudy=[^;]+; Path=/; HttpOnly; SameSite=Lax$`},
		{"https://mail.example.test", `^__Host-understudy=[^;]+; Path=/; HttpOnly; Secure; SameSite=Lax$`},
	} {
		o := s.Options
		o.PublicURL, o.Metrics = c.url, newRegistry()
		site, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		w := recordSignIn(site)
		if got := w.Header().Get("Set-Cookie"); !regexp.MustCompile(c.want).MatchString(got) {
			t.Errorf("%s: cookie %q", c.url, got)
		}
		if hsts := w.Header().Get("Strict-Transport-Security"); (hsts != "") != site.https {
			t.Errorf("%s: Strict-Transport-Security %q", c.url, hsts)
		}
	}
}

func TestCrossOriginFormsAreRefused(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	v := s.as(t, "op")
	for header, value := range map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.test"} {
		req, err := http.NewRequest(http.MethodPost, s.URL+"/domains/example.test/mode", strings.NewReader("to=emergency"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set(header, value)
		if status, body := v.do(req); status != 403 || !strings.Contains(body, "another website") {
			t.Errorf("%s: %s: %d", header, value, status)
		}
	}
	if status, _ := v.post("/domains/example.test/mode", "to", "normal", "reason", strings.Repeat("x", maxForm+1)); status != 413 {
		t.Errorf("a form larger than allowed: %d", status)
	}
}
