package web

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"understudy/internal/store"
)

// widths are those of a phone and of a desk, in pixels.
var widths = map[string]int64{"narrow": 360, "wide": 1280}

// resize gives a window one of widths.
func (b *window) resize(width string) {
	b.t.Helper()
	options := []chromedp.EmulateViewportOption{}
	if width == "narrow" {
		options = append(options, chromedp.EmulateMobile)
	}
	b.run(chromedp.EmulateViewport(widths[width], 800, options...))
}

// troubles are what no page may have, each a count in JavaScript.
var troubles = map[string]string{
	"pixels stick out":                        `document.documentElement.scrollWidth - document.documentElement.clientWidth`,
	"parts that want to be scrolled sideways": `[...document.querySelectorAll(".scroll")].filter(e => e.scrollWidth > e.clientWidth).length`,
	"fields without a label":                  `[...document.querySelectorAll("input:not([type=hidden]), textarea, select")].filter(e => ![...e.labels].some(l => [...l.childNodes].some(n => n.nodeType == 3 && n.textContent.trim())) && !e.ariaLabel).length`,
	"buttons and links without words":         `[...document.querySelectorAll("button, a, summary")].filter(e => !e.textContent.trim() && !e.ariaLabel).length`,
	"buttons of the same name":                `(n => n.length - new Set(n).size)([...document.querySelectorAll("main button")].map(e => e.ariaLabel || e.innerText.trim()))`,
	"pages without one main headline":         `Math.abs(document.querySelectorAll("h1").length - 1)`,
	"levels of headlines left out":            `[...document.querySelectorAll("h1, h2, h3")].filter((e, i, all) => i && e.tagName[1] - all[i-1].tagName[1] > 1).length`,
	"ids given twice":                         `(n => n.length - new Set(n).size)([...document.querySelectorAll("[id]")].map(e => e.id))`,
	"names of what is not there":              `[...document.querySelectorAll("[aria-labelledby]")].filter(e => !document.getElementById(e.getAttribute("aria-labelledby"))).length`,
	"elements out of the order":               `document.querySelectorAll("[tabindex]:not([tabindex='-1'])").length`,
	"tables without headers":                  `[...document.querySelectorAll("table")].filter(e => e.querySelectorAll("thead th[scope=col]").length != e.tBodies[0].rows[0].cells.length).length`,
	// A finger needs 24 pixels (WCAG 2.2, 2.5.8); links within text are excepted.
	"buttons too small for a finger": `[...document.querySelectorAll("main button, main .button, main input:not([type=hidden], .away), main select")].filter(e => !e.closest(".choice, .tick") && e.offsetParent && e.getBoundingClientRect().height < 24).length`,
}

// check opens a page and looks for troubles. Its title must be of its own.
func (b *window) check(titles map[string]string, path, name string) {
	b.t.Helper()
	b.open(path)
	for what, js := range troubles {
		if n := b.number(js); n > 0 {
			b.t.Errorf("%s: %d %s", path, n, what)
		}
	}
	title, err := chromedp.Run(b.ctx, chromedp.Title())
	if err != nil {
		b.t.Fatal(err)
	}
	if before, ok := titles[title]; ok {
		b.t.Errorf("%s and %s have the title %q", before, path, title)
	}
	titles[title] = path
	b.picture(name)
}

// TestBrowserWidths looks at every page in the width of a phone and of a desk,
// with the longest names: nothing may stick out, everything has a name.
func TestBrowserWidths(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	pages := s.everyPage(t)
	for width := range widths {
		t.Run(width, func(t *testing.T) {
			t.Parallel()
			b, titles := newWindow(t, s), map[string]string{}
			b.resize(width)
			b.check(titles, "/login", width+"-login")
			b.signIn("op", pass, "domains")
			for name, path := range pages {
				b.check(titles, path, width+"-"+name)
			}
			owner := newWindow(t, s)
			owner.resize(width)
			owner.run(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
				_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
					Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}})
				return err
			}))
			owner.signIn(anaMail, pass, "where")
			titles = map[string]string{}
			owner.check(titles, "/me", width+"-own-dark")
			owner.check(titles, "/archive", width+"-own-archive-dark")
		})
	}
}

// everyPage fills a site and returns the path of each of its pages.
func (s *testSite) everyPage(t *testing.T) map[string]string {
	t.Helper()
	seedHealth(t, s)
	const long = "ana.with.a.very.long.address.that.does.not.end@example.test"
	execSQL(t, s.Store, `UPDATE mailbox SET name = 'Ana of the very long name that goes on and on', address = '`+long+`' WHERE address = 'bruno@example.test'`)
	seedRecipients(t, s)
	if err := s.Store.AddOutboundAccount(t.Context(), store.NewOutboundAccount{Name: strings.Repeat("relay-", 9) + "1", Domains: []string{"example.test", "other.test"}, Hash: passHash}); err != nil {
		t.Fatal(err)
	}
	ids := s.archived(t, mail{Sender: "dora@internet.test", Mailboxes: []string{anaMail}, Body: odd},
		mail{Sender: strings.Repeat("x", 200) + "@internet.test", Mailboxes: []string{anaMail}, Body: simple(strings.Repeat("Unbreakable", 40), "x")},
		mail{Sender: "dora@internet.test", Mailboxes: []string{anaMail}, Body: simple("Minutes of Monday", "x")})
	order, err := s.Store.Redeliver(t.Context(), store.NewRedelivery{Actor: "op", Access: store.Access{All: true}, Messages: ids})
	if err != nil {
		t.Fatal(err)
	}
	items, err := s.Store.DueItems(t.Context(), order.ID, "", 10)
	if err != nil || len(items) != 3 {
		t.Fatal(items, err)
	}
	for _, i := range items[:2] {
		if _, err := s.Store.BeginItem(t.Context(), i); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Store.ItemFailed(t.Context(), items[0], "552 5.3.4 "+strings.Repeat("toolarge", 30)); err != nil {
		t.Fatal(err)
	}
	if err := s.Store.ItemRetry(t.Context(), items[1], "451 4.7.1 greylisted", time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	const d, box = "/domains/example.test", "/domains/example.test/mailboxes/"
	message := func(n int) string { return "/archive/" + ids[n].String() }
	return map[string]string{"home": "/", "domain": d, "settings": d + "/settings", "mailboxes": d + "/mailboxes",
		"confirm": d + "/switch?to=emergency&reason=" + strings.Repeat("x", 200), "recipients": d + "/recipients", "outbound": d + "/outbound", "audit": d + "/audit",
		"mailbox": box + url.PathEscape(long), "remove": box + "ana@example.test/remove", "me": "/me", "error": "/nonsense",
		"archive": "/archive", "archive-found": "/archive?q=unbreakable*+OR+monday", "archive-wrong": "/archive?q=size:big", "archive-nothing": "/archive?q=nowhere",
		"message": message(0), "message-long": message(1) + "?as=text", "source": message(2) + "/source",
		"redeliver": "/archive/redeliver?q=unbreakable*", "redeliver-chosen": fmt.Sprintf("/archive/redeliver?chosen=yes&id=%s&id=%s", ids[0], ids[1]),
		"redelivery": redeliveryPath(order.ID), "redeliveries": "/redeliveries"}
}

// seedRecipients has addresses offered and one refused.
func seedRecipients(t *testing.T, s *testSite) {
	t.Helper()
	execSQL(t, s.Store, `INSERT INTO recipient_domain (domain_id, catch_all, catch_all_at) SELECT id, false, now() FROM domain WHERE name = 'example.test'`)
	execSQL(t, s.Store, `INSERT INTO recipient_offer (address, domain_id, state, first_seen, last_seen) SELECT x || '@' || d.name, d.id, 'offered', now(), now()
		FROM domain d, unnest('{dora,emil,fritz,gina,an.address.that.is.much.longer.than.most.others}'::text[]) x WHERE d.name = 'example.test'`)
	execSQL(t, s.Store, `INSERT INTO recipient_check (address, domain_id, asked_at, refused_since, marked, reply)
		SELECT address, domain_id, now(), '2026-01-02 03:04:05Z', true, '550 5.1.1 <ana@example.test>: Recipient address rejected: User unknown' FROM mailbox WHERE address = 'ana@example.test'`)
}

// TestBrowserKeyboard: the tabulator leads past the navigation at once, then
// from each message's box to the message; the space bar ticks it.
func TestBrowserKeyboard(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	ids := s.archived(t, mail{Sender: "dora@internet.test", Mailboxes: []string{anaMail}, Body: simple("one", "x")},
		mail{Sender: "dora@internet.test", Mailboxes: []string{anaMail}, Body: simple("two", "x")})
	b := newWindow(t, s)
	b.signIn(anaMail, pass, "where")
	b.open("/archive?q=dora")
	press := func(key, want string) {
		t.Helper()
		b.run(chromedp.KeyEvent(key))
		got, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](`(e => e.dataset.testid || e.getAttribute("href") || e.innerText)(document.activeElement)`))
		if err != nil || got != want {
			t.Errorf("%q leads to %q, want %q, %v", key, got, want, err)
		}
	}
	press(kb.Tab, "#main")
	b.run(chromedp.KeyEvent(kb.Enter))
	for _, want := range []string{"redeliveries", "query", "search", "by-form", "What can be written here", "choose-" + ids[1].String(), "/archive/" + ids[1].String(), "choose-" + ids[0].String()} {
		press(kb.Tab, want)
	}
	press(" ", "choose-"+ids[0].String())
	for _, want := range []string{"/archive/" + ids[0].String(), "redeliver-chosen", "redeliver-all"} {
		press(kb.Tab, want)
	}
	b.run(chromedp.Focus(id("redeliver-chosen")), chromedp.KeyEvent(kb.Enter), chromedp.WaitVisible(id("confirm")))
	b.says("question", "Deliver this message again?")
}
