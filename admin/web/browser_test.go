package web

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"understudy/internal/wait"
)

// One Chromium for all tests, each with cookies of its own.
var browser struct {
	sync.Mutex
	ctx    context.Context
	cancel []context.CancelFunc
	err    error
}

func sharedBrowser() (context.Context, error) {
	browser.Lock()
	defer browser.Unlock()
	if browser.ctx != nil || browser.err != nil {
		return browser.ctx, browser.err
	}
	profile, err := os.MkdirTemp("", "chromium-")
	if err != nil {
		return nil, err
	}
	opts := []chromedp.ExecAllocatorOption{chromedp.ExecPath("/usr/bin/chromium"), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.NoFirstRun, chromedp.UserDataDir(profile), chromedp.WindowSize(1000, 800), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.WSURLReadTimeout(3 * time.Minute)}
	alloc, stop := chromedp.NewExecAllocator(context.Background(), opts...)
	ctx, cancel := chromedp.NewContext(alloc)
	browser.cancel = []context.CancelFunc{cancel, stop, func() { os.RemoveAll(profile) }}
	browser.ctx, browser.err = ctx, chromedp.Do(ctx)
	return browser.ctx, browser.err
}

func stopBrowser() {
	for _, cancel := range browser.cancel {
		cancel()
	}
}

// window is a browser window of a person.
type window struct {
	t   *testing.T
	ctx context.Context
	url string
}

// newWindow opens a window. When the test ends it fails the test if the page
// broke its own security policy or asked another host for anything.
func newWindow(t *testing.T, s *testSite) *window { return openWindow(t, s, true) }

// openWindow is newWindow; unless strict, the page may break what it likes.
func openWindow(t *testing.T, s *testSite, strict bool) *window {
	t.Helper()
	shared, err := sharedBrowser()
	if err != nil {
		t.Fatalf("start chromium: %v", err)
	}
	ctx, cancel := chromedp.NewContext(shared, chromedp.WithNewBrowserContext())
	var mu sync.Mutex
	var trouble []string
	err = chromedp.Listen(ctx, func(ev any) {
		mu.Lock()
		defer mu.Unlock()
		switch e := ev.(type) {
		case *cdplog.EventEntryAdded:
			if e.Entry.Source != cdplog.EntrySourceNetwork { // a page of status 401 or 422 is logged there
				trouble = append(trouble, fmt.Sprintf("console: %s %s", e.Entry.Source, e.Entry.Text))
			}
		case *network.EventRequestWillBeSent:
			if !strings.HasPrefix(e.Request.URL, s.URL+"/") && !strings.HasPrefix(e.Request.URL, "data:") { // that asks nobody
				trouble = append(trouble, "request to "+e.Request.URL)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(ctx, 8*time.Minute)
	t.Cleanup(func() {
		stop()
		cancel()
		mu.Lock()
		defer mu.Unlock()
		for _, x := range trouble {
			if strict {
				t.Error(x)
			}
		}
	})
	return &window{t, ctx, s.URL}
}

func (b *window) run(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

// number evaluates JavaScript (through the debugger: the page's own policy
// forbids any).
func (b *window) number(js string) int {
	b.t.Helper()
	n, err := chromedp.Run(b.ctx, chromedp.Evaluate[int](js))
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

func id(name string) chromedp.CSS { return chromedp.CSS(`[data-testid="` + name + `"]`) }

func (b *window) open(path string) { b.t.Helper(); b.run(chromedp.Navigate(b.url + path)) }

// click clicks and waits until then is seen on the page that follows, which is
// not this one, even if that has the same.
func (b *window) click(name, then string) {
	b.t.Helper()
	b.number(`window.left = 1`)
	b.run(chromedp.Click(id(name)))
	b.follows(`window.left || document.querySelector('[data-testid="`+then+`"]') == null ? "" : "there"`, "there")
	b.run(chromedp.WaitVisible(id(then)))
}

// follows waits until what JavaScript says of the page, whichever that is by
// then, contains want.
func (b *window) follows(js, want string) {
	b.t.Helper()
	wait.Until(b.t, js, func() error {
		got, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](js))
		if err == nil && !strings.Contains(got, want) {
			err = fmt.Errorf("%q, want %q", got, want)
		}
		return err
	})
}

func (b *window) typeIn(name, text string) {
	b.t.Helper()
	b.run(chromedp.Clear(id(name)), chromedp.SendKeys(id(name), text))
}

func (b *window) text(name string) string {
	b.t.Helper()
	s, err := chromedp.Run(b.ctx, chromedp.Text(id(name)))
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

func (b *window) says(name string, wants ...string) {
	b.t.Helper()
	got := b.text(name)
	for _, want := range wants {
		if !strings.Contains(got, want) {
			b.t.Errorf("%s says %q, want %q", name, got, want)
		}
	}
}

func (b *window) signIn(login, plain, then string) {
	b.t.Helper()
	b.open("/login")
	b.typeIn("login", login)
	b.typeIn("password", plain)
	b.click("sign-in", then)
}

// picture saves a screenshot when UNDERSTUDY_SCREENSHOTS names a directory.
func (b *window) picture(name string) {
	b.t.Helper()
	dir := os.Getenv("UNDERSTUDY_SCREENSHOTS")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		b.t.Error(err)
	}
}

func TestBrowserThreeRoles(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	for login, then := range map[string]string{"op": "domains", "adm": "domains", "ana@example.test": "where"} {
		b := newWindow(t, s)
		b.signIn(login, "not the password", "problem")
		b.says("problem", "Login or password is wrong")
		if login == "op" {
			b.picture("login")
		}
		b.typeIn("password", pass)
		b.click("sign-in", then)
		b.says("me", login)
		b.click("sign-out", "login-form")
		b.open("/")
		b.run(chromedp.WaitVisible(id("login-form")))
	}
}

func TestBrowserSwitch(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	seedHealth(t, s)
	b := newWindow(t, s)
	b.signIn("adm", pass, "domains")
	b.picture("home")
	if b.number(`document.body.innerText.includes("other.test") ? 1 : 0`) != 0 {
		t.Error("the domain admin sees other.test")
	}
	b.open("/domains/other.test")
	b.says("error", "There is no such page")
	b.open("/domains/example.test")
	b.says("state", "goes to its own mail server")
	b.picture("domain-normal")
	b.run(chromedp.Click(id("to-emergency")), chromedp.WaitVisible(id("state"))) // without a reason the browser stays
	b.typeIn("reason", "fire in the machine room")
	b.click("to-emergency", "confirm")
	b.says("steps", "goes to the portal at once")
	b.says("confirm-reason", "fire in the machine room")
	b.picture("confirm")
	b.click("confirm-switch", "flash")
	b.says("mode", "emergency")
	b.says("state-text", "goes to the portal since", "fire in the machine room")
	b.says("timeline-entry", "normal → emergency", "by adm", "fire in the machine room", "UTC")
	b.picture("domain-emergency")
	b.typeIn("reason", "the fire is out")
	b.click("to-normal", "confirm")
	b.click("confirm-switch", "flash")
	b.says("mode", "normal")
	b.says("timeline", "emergency → normal", "the fire is out")
}

func seedHealth(t *testing.T, s *testSite) {
	t.Helper()
	for _, sql := range []string{
		`UPDATE domain SET primaries = '{mx1.example.test:25,mx2.example.test:25}' WHERE name = 'example.test'`,
		`INSERT INTO primary_health SELECT id, 'mx1.example.test:25', 'unreachable', 'dial tcp 192.0.2.1:25: connection refused', now() - interval '3 min', now() FROM domain WHERE name = 'example.test'`,
		`INSERT INTO drain_ledger (mailbox, guid, domain, state, size, reply) VALUES ('ana@example.test', 'g', 'example.test', 'held', 1234567, '552 5.3.4 Message size exceeds fixed limit')`,
		`INSERT INTO mode_change (domain_id, at, from_mode, to_mode, actor, manual, observed, reason, evidence)
			SELECT id, now() - interval '2 days', 'normal', 'emergency', 'detector', false, true, '3 of 3 connects refused', '{"class": "unreachable", "refused": 3}' FROM domain WHERE name = 'example.test'`,
	} {
		if _, err := s.Store.Pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBrowserOwner(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	b := newWindow(t, s)
	b.signIn("ana@example.test", pass, "where")
	b.picture("own")
	b.typeIn("old", pass)
	b.typeIn("new", "a brand new one")
	b.typeIn("again", "a brand new one")
	b.click("change-password", "flash")
	b.says("flash", "Your password is changed")
	b.typeIn("label", "phone")
	b.click("add-app", "new-app")
	app := b.text("secret")
	b.click("sign-out", "login-form")
	b.signIn("ana@example.test", app, "problem")
	b.signIn("ana@example.test", pass, "problem")
	b.signIn("ana@example.test", "a brand new one", "where")
	b.click("end-phone", "flash")
}

func TestBrowserMailboxes(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	b := newWindow(t, s)
	b.signIn("adm", pass, "domains")
	b.open("/domains/example.test/mailboxes")
	b.picture("mailboxes")
	b.typeIn("local", "dora")
	b.typeIn("name", "Dora D")
	b.click("add", "new-password")
	b.picture("new-password")
	plain := b.text("secret")
	b.open("/domains/example.test/mailboxes/dora@example.test")
	b.typeIn("alias", "sales")
	b.click("add-alias", "flash")
	b.picture("mailbox")
	b.open("/domains/example.test/mailboxes?q=sales")
	b.says("mailboxes", "dora@example.test")
	b.open("/domains/example.test/mailboxes/dora@example.test")
	owner := newWindow(t, s)
	owner.signIn("dora@example.test", plain, "where")
	b.click("remove", "confirm-remove")
	b.click("confirm", "flash")
	owner.open("/me")
	owner.run(chromedp.WaitVisible(id("login-form")))
}
