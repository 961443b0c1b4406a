package web

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"understudy/internal/directory"
)

// atWidths runs a test at each of widths, on a site of its own.
func atWidths(t *testing.T, test func(t *testing.T, s *testSite, width string)) {
	t.Helper()
	for width := range widths {
		t.Run(width, func(t *testing.T) {
			t.Parallel()
			test(t, newTestSite(t, cluster), width)
		})
	}
}

// openDomain is a window of example.test's admin, who has gone to its page.
func openDomain(t *testing.T, s *testSite, width string) *window {
	t.Helper()
	b := newWindow(t, s)
	b.resize(width)
	b.signIn("adm", pass, "domains")
	b.run(chromedp.Click(chromedp.CSS(`[data-testid="domain-example.test"] a`)), chromedp.WaitVisible(id("state")))
	return b
}

// TestBrowserAddresses: a domain's admin goes through what the mail server
// has and nobody registered.
func TestBrowserAddresses(t *testing.T) {
	t.Parallel()
	atWidths(t, func(t *testing.T, s *testSite, width string) {
		b := openDomain(t, s, width)
		b.click("tab-recipients", "catch-all")
		b.says("catch-all", "was not asked yet")
		b.says("no-offers", "None.")
		seedRecipients(t, s)
		b.click("tab-recipients", "offers")
		b.says("catch-all", "refuses addresses that it does not have", "Asked 20")
		b.says("refused-ana@example.test", "since 2026-01-02 03:04:05 UTC", "User unknown")
		b.picture(width + "-addresses-offered")
		b.click("accept-dora@example.test", "flash")
		b.says("flash", "dora@example.test is added, without a password")
		b.run(chromedp.Click(id("ignore-emil@example.test")))
		b.comesToSay("flash", "emil@example.test will not be offered again")
		b.says("accept-all", "Add all 3")
		b.click("accept-all", "no-offers")
		b.says("flash", "3 mailboxes are added")
		b.run(chromedp.SendKeys(id("learn"), "are registered at once"))
		b.run(chromedp.Click(id("learn-save")))
		b.comesToSay("flash", "Saved.")
		if got, err := chromedp.Run(b.ctx, chromedp.Value(id("learn"))); err != nil || got != "add" {
			t.Errorf("learn is %q, %v", got, err)
		}
		b.picture(width + "-addresses-done")
		b.click("tab-mailboxes", "mailboxes")
		b.says("mailboxes", "dora@example.test", "gina@example.test", "no password")
		if strings.Contains(b.text("mailboxes"), "emil") {
			t.Error("the address that was put aside is a mailbox")
		}
		// Only now can Dora sign in.
		b.run(chromedp.Click(chromedp.CSS(`[data-testid="mailbox-dora@example.test"] a`)), chromedp.WaitVisible(id("no-password")))
		b.click("generate", "new-password")
		dora := newWindow(t, s)
		dora.signIn("dora@example.test", b.text("secret"), "where")
		execSQL(t, s.Store, `UPDATE recipient_domain SET catch_all = true`)
		b.click("tab-recipients", "catch-all")
		b.says("catch-all", "takes any address", "only the registered mailboxes and aliases get mail")
	})
}

// TestBrowserSending: a domain's admin lets a mail server sign in; the
// operator bounds how much may be sent.
func TestBrowserSending(t *testing.T) {
	t.Parallel()
	atWidths(t, func(t *testing.T, s *testSite, width string) {
		b := openDomain(t, s, width)
		b.click("tab-outbound", "no-accounts")
		b.typeIn("account-name", "relay 1")
		b.click("account-add", "problem")
		b.says("problem", "is no account name")
		b.typeIn("account-name", "relay-1")
		b.click("account-add", "new-password")
		first := b.text("secret")
		b.picture(width + "-sending-password")
		b.click("done", "accounts")
		b.says("account-relay-1", "relay-1", "example.test", "ready")
		b.picture(width + "-sending")
		b.click("password-relay-1", "new-password")
		if b.text("secret") == first {
			t.Error("the new password is the old one")
		}
		b.click("done", "accounts")
		if b.number(`document.querySelectorAll('[data-testid="mailbox_hour"]:not([readonly]), [data-testid="limits-save"]').length`) != 0 {
			t.Error("the admin may change limits")
		}
		b.click("remove-relay-1", "confirm-remove")
		b.says("confirm-remove", "Remove relay-1?")
		b.picture(width + "-sending-remove")
		b.click("cancel", "accounts")
		b.click("remove-relay-1", "confirm-remove")
		b.click("confirm", "no-accounts")
		b.says("flash", "relay-1 is removed")

		op := newWindow(t, s)
		op.resize(width)
		op.signIn("op", pass, "domains")
		op.open("/domains/example.test/outbound")
		op.typeIn("mailbox_hour", "50")
		op.typeIn("network_day", "many")
		op.click("limits-save", "problem")
		op.says("problem", "is no number of recipients")
		if got, err := chromedp.Run(op.ctx, chromedp.Value(id("mailbox_hour"))); err != nil || got != "50" {
			t.Errorf("what was typed is lost: %q, %v", got, err)
		}
		op.typeIn("network_day", "7000")
		op.click("limits-save", "flash")
		l, err := s.Store.SendLimits(t.Context(), "example.test")
		if want := (directory.SendLimit{ID: l.ID, Version: l.Version, MailboxPerHour: 50, NetworkPerDay: 7000}); err != nil || l != want {
			t.Errorf("limits %+v, %v", l, err)
		}
	})
}
