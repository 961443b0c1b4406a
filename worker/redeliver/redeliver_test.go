package redeliver

import (
	"strings"
	"testing"

	"understudy/internal/archive"
	"understudy/internal/directory"
	"understudy/internal/store"
)

const sent = "Received: from x.test by y.test; Mon, 2 Mar 2026 10:00:00 +0000\r\nFrom: s@x.test\r\nBcc: secret@x.test,\r\n more@x.test\r\nSubject: =?utf-8?q?Ol=C3=A1?=\r\n\r\nBcc: stays\r\n..dots\r\n"

func TestToThePrimary(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ids := w.add("s@x.test", archive.Inbound, []string{ana, bruno}, sent)
	r, nap := w.run(w.order(ids[0], ids[0]).ID)
	if r.State != store.RedeliveryDone || r.Done != 2 || r.Failed != 0 || nap >= 0 {
		t.Fatalf("%+v, %v", r, nap)
	}
	for _, m := range []string{ana, bruno} {
		mail := w.primary.Await(m, 1)
		text := strings.ReplaceAll(mail[0], "\r\n", "\n")
		for _, want := range []string{"Return-Path: <>\n", "X-Understudy-Redelivered: ", "\tby op\n", "X-Understudy-Id: " + ids[0].String() + "\nReceived: from x.test by y.test;",
			"Subject: =?utf-8?q?Ol=C3=A1?=\n\nBcc: stays\n..dots\n"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: lacks %q:\n%s", m, want, text)
			}
		}
		if strings.Contains(text, "secret@") || strings.Contains(text, "more@") {
			t.Errorf("%s: a Bcc is shown:\n%s", m, text)
		}
	}
	if again, _ := w.run(r.ID); again.Done != 2 || len(w.primary.Mail(ana)) != 1 {
		t.Errorf("a redelivery that is done goes on: %+v", again)
	}
	if n := len(w.reentry.Mail(ana)); n != 0 {
		t.Errorf("%d messages came to the portal", n)
	}
}

func TestToThePortal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.setMode(directory.Emergency)
	ids := w.add("s@x.test", archive.Inbound, []string{ana}, sent)
	if r, _ := w.run(w.order(ids...).ID); r.Done != 1 {
		t.Fatalf("%+v", r)
	}
	w.reentry.Await(ana, 1)
	w.setMode(directory.Normal)
	if r, _ := w.run(w.order(ids...).ID); r.Done != 1 {
		t.Fatalf("%+v", r)
	}
	w.primary.Await(ana, 1)
	if p, e := len(w.primary.Mail(ana)), len(w.reentry.Mail(ana)); p != 1 || e != 1 {
		t.Errorf("%d at the primary, %d in the portal", p, e)
	}
}

func TestSenderKeepsBcc(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ids := w.add("Ana@example.test", archive.Outbound, []string{ana}, sent)
	w.run(w.order(ids...).ID)
	if mail := w.primary.Await(ana, 1); !strings.Contains(mail[0], "secret@x.test") {
		t.Errorf("the sender's own Bcc is gone:\n%s", mail[0])
	}
}

// TestOutcomes: 5xx fails with the reply, 4xx waits, a dead primary waits, a
// lost segment and a lost domain fail; nothing bounces.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ids := w.add("s@x.test", archive.Inbound, []string{ana}, numbered(1))
	ids = append(ids, w.add("s@x.test", archive.Inbound, []string{bruno}, numbered(2))...)
	w.primary.Refuse(ana, "550 5.7.1 not wanted here")
	w.primary.Refuse(bruno, "451 4.7.1 not now")
	r, nap := w.run(w.order(ids...).ID)
	if r.State != store.RedeliverySending || r.Failed != 1 || r.Done != 0 || nap <= 0 || nap > longestNap {
		t.Fatalf("%+v, %v", r, nap)
	}
	failed, err := w.store.FailedItems(t.Context(), r.ID, 10)
	if err != nil || len(failed) != 1 || !strings.Contains(failed[0].Reply, "550 5.7.1") || !strings.Contains(failed[0].Reply, "not wanted here") {
		t.Errorf("%+v, %v", failed, err)
	}
	waiting, err := w.store.RetriedItems(t.Context(), r.ID, 10)
	if err != nil || len(waiting) != 1 || !strings.Contains(waiting[0].Reply, "451 4.7.1") || waiting[0].Attempts != 1 {
		t.Errorf("%+v, %v", waiting, err)
	}
	w.primary.Refuse(bruno, "")
	w.exec(`UPDATE redelivery_item SET next_at = now()`)
	if r, nap = w.run(r.ID); r.State != store.RedeliveryDone || r.Done != 1 || r.Failed != 1 || nap >= 0 {
		t.Errorf("%+v, %v", r, nap)
	}
	w.primary.Await(bruno, 1)

	w.primary.Stop()
	more := w.add("s@x.test", archive.Inbound, []string{bruno}, numbered(3), numbered(4), numbered(5))
	r, _ = w.run(w.order(more...).ID)
	if waiting, err = w.store.RetriedItems(t.Context(), r.ID, 10); err != nil || len(waiting) != 3 || r.Failed != 0 {
		t.Errorf("a dead primary: %+v, %+v, %v", r, waiting, err)
	}
	w.primary.Run()
	w.exec(`UPDATE redelivery_item SET next_at = now()`)
	w.exec(`UPDATE message SET seg_offset = seg_offset + 1 WHERE id = $1`, more[0])
	w.exec(`DELETE FROM message WHERE id = $1`, more[1])
	if r, _ = w.run(r.ID); r.Done != 1 || r.Failed != 2 || r.State != store.RedeliveryDone {
		t.Errorf("%+v", r)
	}
	w.primary.Await(bruno, 2)

	last := w.order(ids[1])
	w.exec(`DELETE FROM domain`)
	w.await("the domain to go", func() bool { _, ok := w.dir.Domain(domain); return !ok })
	if r, _ = w.run(last.ID); r.Failed != 1 {
		t.Errorf("%+v", r)
	}
}

func TestTwoWorkers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.order(w.add("s@x.test", archive.Inbound, []string{ana}, numbered(1))...)
	release, ok, err := w.store.LockRedelivery(t.Context(), r.ID)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if got, nap := w.run(r.ID); got.Done != 0 || nap != crowdedNap {
		t.Errorf("%+v, %v", got, nap)
	}
	release()
	if got, _ := w.run(r.ID); got.Done != 1 {
		t.Errorf("%+v", got)
	}
}

func TestByQueryWithHostileName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add("s@x.test", archive.Inbound, []string{ana}, numbered(1), numbered(2))
	r, err := w.store.Redeliver(t.Context(), store.NewRedelivery{Actor: "eve\r\nBcc: x@x.test", Access: store.Access{Mailbox: ana}, Query: "after:1d"})
	if err != nil {
		t.Fatal(err)
	}
	if r, _ = w.run(r.ID); r.Total != 2 || r.Done != 2 || r.State != store.RedeliveryDone {
		t.Fatalf("%+v", r)
	}
	for _, m := range w.primary.Await(ana, 2) {
		if !strings.Contains(m, "\tby eve??Bcc: x@x.test\n") {
			t.Errorf("the name is not contained:\n%s", m)
		}
	}
}
