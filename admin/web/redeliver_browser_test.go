package web

import (
	"fmt"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// comesToSay waits until a page that loads itself anew says something.
func (b *window) comesToSay(name, want string) {
	b.t.Helper()
	b.follows(`(document.querySelector('[data-testid="`+name+`"]') || {innerText: ""}).innerText`, want)
}

func TestBrowserRedeliver(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	var mails []mail
	for n := range 4 {
		mails = append(mails, mail{Sender: "dora@internet.test", Mailboxes: []string{anaMail, brunoMail}, Body: simple(fmt.Sprint("needle ", n), "x")})
	}
	ids := s.archived(t, mails...)
	b := newWindow(t, s)
	b.signIn("adm", pass, "domains")
	b.open("/archive?q=needle")
	b.click("redeliver-all", "confirm")
	b.says("question", "Deliver 4 messages again?")
	b.says("steps", "8 copies to 2 mailboxes of example.test, on the domain’s own mail server, which is active now")
	b.picture("redeliver-confirm")
	b.click("go", "redelivery")
	b.comesToSay("state", "Collecting")
	list, err := s.Store.Redeliveries(t.Context(), "adm", 1)
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	// What worker does, step by step: the page follows by itself.
	if err := s.Store.CollectRedelivery(t.Context(), &list[0]); err != nil {
		t.Fatal(err)
	}
	items, err := s.Store.DueItems(t.Context(), list[0].ID, "", 10)
	if err != nil || len(items) != 8 {
		t.Fatal(items, err)
	}
	for n, i := range items {
		if _, err := s.Store.BeginItem(t.Context(), i); err != nil {
			t.Fatal(err)
		}
		step := func() error { return s.Store.ItemSent(t.Context(), i, "250 2.0.0 ok") }
		switch {
		case n == 1:
			step = func() error { return s.Store.ItemFailed(t.Context(), i, "552 5.3.4 message too large") }
		case n == 2:
			step = func() error {
				return s.Store.ItemRetry(t.Context(), i, "451 4.7.1 greylisted", time.Now().Add(time.Hour))
			}
		}
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	b.comesToSay("state", "6 of 8 delivered")
	b.comesToSay("left", "1")
	b.comesToSay("failures", "552 5.3.4 message too large")
	b.comesToSay("retries", "451 4.7.1 greylisted")
	b.picture("redelivery")
	if _, err := s.Store.Pool.Exec(t.Context(), `UPDATE redelivery_item SET state = 'sending' WHERE state = 'waiting'`); err != nil {
		t.Fatal(err)
	}
	if err := s.Store.ItemSent(t.Context(), items[2], "250 ok"); err != nil {
		t.Fatal(err)
	}
	if done, err := s.Store.FinishRedelivery(t.Context(), list[0].ID); err != nil || !done {
		t.Fatal(done, err)
	}
	b.comesToSay("state", "Finished: 7 of 8 delivered, 1 could not be")
	b.open("/redeliveries")
	b.says("list", "all found by needle")
	b.open("/archive/" + ids[0].String())
	b.open("/domains/example.test/audit")
	b.says("audit", "adm", "delivered again", "read")
	b.picture("audit")
}

// TestBrowserChoose: of what a search found, two are ticked and delivered
// again; with none ticked nothing is asked.
func TestBrowserChoose(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	var mails []mail
	for n := range 4 {
		mails = append(mails, mail{Sender: "dora@internet.test", Mailboxes: []string{anaMail}, Body: simple(fmt.Sprint("needle ", n), "x")})
	}
	ids := s.archived(t, mails...)
	b := newWindow(t, s)
	b.signIn(anaMail, pass, "where")
	b.open("/archive?q=needle")
	b.click("redeliver-chosen", "messages")
	b.says("messages", "needle 0", "needle 3")
	b.run(chromedp.Click(id("choose-"+ids[1].String())), chromedp.Click(id("choose-"+ids[3].String())))
	b.picture("archive-chosen")
	b.click("redeliver-chosen", "confirm")
	b.says("question", "Deliver 2 messages again?")
	b.click("go", "redelivery")
	list, err := s.Store.Redeliveries(t.Context(), anaMail, 1)
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	items, err := s.Store.DueItems(t.Context(), list[0].ID, "", 10)
	if err != nil || len(items) != 2 {
		t.Fatal(items, err)
	}
	for _, i := range items {
		if i.Message != ids[1] && i.Message != ids[3] {
			t.Errorf("message %s was not chosen", i.Message)
		}
	}
}
