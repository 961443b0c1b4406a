package web

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"understudy/internal/password"
	"understudy/internal/store"
)

func TestSignIn(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	app, hash, err := password.NewApp()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Store.AddAppPassword(t.Context(), "ana@example.test", "phone", hash); err != nil {
		t.Fatal(err)
	}
	off := false
	if err := s.Store.SetMailbox(t.Context(), "bruno@example.test", store.MailboxChange{Enabled: &off}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, login, password string
		status                int
		role                  string
	}{
		{"operator", "OP ", pass, 200, "operator"},
		{"domain admin", "adm", pass, 200, "domain admin"},
		{"mailbox owner", "Ana@Example.TEST", pass, 200, "mailbox owner"},
		{"wrong password", "op", pass + "x", 401, ""},
		{"no such login", "nobody", pass, 401, ""},
		{"no such mailbox", "nobody@example.test", pass, 401, ""},
		{"app password", "ana@example.test", app, 401, ""},
		{"disabled mailbox", "bruno@example.test", pass, 401, ""},
		{"nothing", "", "", 401, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, body := s.visitor(t).signIn(c.login, c.password)
			if status != c.status {
				t.Errorf("status %d, want %d", status, c.status)
			}
			if c.role == "" {
				has(t, body, `data-testid="problem"`, "Login or password is wrong")
				return
			}
			has(t, body, `data-testid="role">`+c.role)
		})
	}
}

func TestSignInRenewsTheSession(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	v := s.as(t, "op")
	token := func() string {
		req, _ := http.NewRequest(http.MethodGet, s.URL, nil)
		for _, c := range v.client.Jar.Cookies(req.URL) {
			return c.Value
		}
		return ""
	}
	first := token()
	v.signIn("adm", pass)
	if second := token(); second == first || second == "" {
		t.Errorf("the token stayed %q", second)
	}
	if _, body := v.get("/"); !strings.Contains(body, ">domain admin<") {
		t.Error("not signed in as the second person")
	}
	v.post("/logout")
	if _, body := v.get("/"); !strings.Contains(body, `data-testid="login-form"`) {
		t.Error("still signed in after signing out")
	}
}

func TestSessionEndsWithTheAccount(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	ctx := t.Context()
	changed, removed, owner := s.as(t, "adm"), s.as(t, "other"), s.as(t, "ana@example.test")
	hash, err := password.Hash("quite another one")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Store.SetAccount(ctx, "adm", store.AccountChange{Hash: &hash}); err != nil {
		t.Fatal(err)
	}
	if err := s.Store.RemoveAccount(ctx, "other"); err != nil {
		t.Fatal(err)
	}
	if err := s.Store.SetMailboxPassword(ctx, "ana@example.test", hash); err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]*visitor{"password changed": changed, "account removed": removed, "mailbox password changed": owner} {
		if _, body := v.get("/"); !strings.Contains(body, `data-testid="login-form"`) {
			t.Errorf("%s: still signed in", name)
		}
	}
}

func TestNextLeadsOnlyHere(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"/domains/x?y=1": "/domains/x?y=1", "": "/", "//evil.test": "/", `/\evil.test`: "/",
		"https://evil.test": "/", "/login": "/", "/a\nb": "/"} {
		if got := localPath(in); got != want {
			t.Errorf("localPath(%q) = %q, want %q", in, got, want)
		}
	}
	s := newTestSite(t, cluster)
	v := s.visitor(t)
	if _, body := v.get("/domains/example.test"); !strings.Contains(body, `value="/domains/example.test"`) {
		t.Error("the sign-in page forgets where to go")
	}
	if _, body := v.post("/login", "login", "op", "password", pass, "next", "/domains/example.test"); !strings.Contains(body, `data-testid="state-text"`) {
		t.Error("not led on to the page wanted")
	}
}

func TestThrottle(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	now := time.Now()
	s.throttle = newThrottle(func() time.Time { return now })
	v := s.visitor(t)
	for range int(pairLimit.burst) {
		if status, _ := v.signIn("op", "wrong one"); status != 401 {
			t.Fatalf("status %d, want 401", status)
		}
	}
	status, body := v.signIn("op", pass)
	if status != 429 || !strings.Contains(body, "too many attempts") {
		t.Errorf("after %v wrong ones the right one got %d", pairLimit.burst, status)
	}
	if status, _ := v.signIn("adm", pass); status != 200 {
		t.Errorf("another login from here: %d", status)
	}
	now = now.Add(pairLimit.every)
	if status, _ := v.signIn("op", pass); status != 200 {
		t.Errorf("after the wait: %d", status)
	}
}

func TestThrottleOfAnAddressAndOfALogin(t *testing.T) {
	t.Parallel()
	now := time.Now()
	th := newThrottle(func() time.Time { return now })
	tries := func(key func(int) (string, string)) (n int) {
		for ; n < 1000; n++ {
			if login, addr := key(n); th.take(login, addr) > 0 {
				break
			}
		}
		return n
	}
	if n := tries(func(i int) (string, string) { return "login" + itoa(i), "192.0.2.1" }); n != int(addressLimit.burst) {
		t.Errorf("one address may try %d logins, want %v", n, addressLimit.burst)
	}
	if n := tries(func(i int) (string, string) { return "op", "198.51.100." + itoa(i) }); n != int(loginLimit.burst) {
		t.Errorf("one login may be tried from %d addresses, want %v", n, loginLimit.burst)
	}
	for i := range 2 * maxBuckets {
		th.take("x"+itoa(i), "y"+itoa(i))
	}
	if len(th.buckets) > maxBuckets || th.recent.Len() != len(th.buckets) {
		t.Errorf("%d buckets, %d in the list; want at most %d", len(th.buckets), th.recent.Len(), maxBuckets)
	}
}

func TestClientAddress(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ remote, forwarded, want string }{
		{"192.0.2.7:1", "", "192.0.2.7"},
		{"192.0.2.7:1", "203.0.113.1", "192.0.2.7"}, // a stranger's header
		{"127.0.0.1:1", "203.0.113.1", "203.0.113.1"},
		{"127.0.0.1:1", "evil, 203.0.113.1", "203.0.113.1"},
		{"127.0.0.1:1", "nonsense", "127.0.0.1"},
		{"[2001:db8:1:2:3::4]:1", "", "2001:db8:1:2::/64"},
		{"[::ffff:192.0.2.7]:1", "", "192.0.2.7"},
	} {
		r := &http.Request{RemoteAddr: c.remote, Header: http.Header{"X-Forwarded-For": {c.forwarded}}}
		if got := clientAddress(r); got != c.want {
			t.Errorf("%s, forwarded for %q: %q, want %q", c.remote, c.forwarded, got, c.want)
		}
	}
}
