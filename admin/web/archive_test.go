package web

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"understudy/internal/archive"
	"understudy/internal/mime"
	"understudy/internal/store"
)

// mail is a message to archive.
type mail struct {
	Sender     string
	Direction  archive.Direction // "" is inbound
	Recipients []string          // nil: Mailboxes
	Mailboxes  []string
	Route      []string
	Body       string
}

// archived appends messages to the archive and indexes them as worker does.
func (s *testSite) archived(t *testing.T, mails ...mail) (ids []uuid.UUID) {
	t.Helper()
	w, err := archive.OpenWriter(s.Archive, archive.Options{Recipients: s.Recipients})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	decoder := mime.NewDecoder()
	for i, m := range mails {
		if m.Direction == "" {
			m.Direction = archive.Inbound
		}
		if m.Recipients == nil {
			m.Recipients = m.Mailboxes
		}
		spool := archive.NewSpool(t.TempDir(), 1<<28)
		if _, err := spool.Write([]byte(m.Body)); err != nil {
			t.Fatal(err)
		}
		e := &archive.Envelope{ID: uuid.Must(uuid.NewV7()), Received: time.Now().UTC().Add(time.Duration(i) * time.Millisecond).Truncate(time.Microsecond),
			Direction: m.Direction, Sender: m.Sender, Recipients: m.Recipients, Mailboxes: m.Mailboxes, Route: m.Route, Client: "192.0.2.7", QueueID: "4XyZ"}
		ref, err := w.Append(t.Context(), e, spool)
		if err != nil {
			t.Fatal(err)
		}
		d, _ := decoder.Decode(strings.NewReader(m.Body)) //nolint:errcheck // hostile mail is indexed as far as it goes
		err = s.Store.IndexBatch(t.Context(), store.IndexBatch{Segment: ref.Segment, From: ref.Offset, To: ref.Offset + ref.Length, Messages: []store.IndexedMessage{{
			ID: e.ID, Received: e.Received, Direction: string(e.Direction), Sender: e.Sender, Recipients: e.Recipients, Mailboxes: e.Mailboxes, Route: e.Route,
			Subject: d.Subject, FromHeader: d.From, ToHeader: d.To, MessageID: d.MessageID, Attachments: d.Attachments, Text: d.Text, Size: int64(len(m.Body)),
			Client: e.Client, QueueID: e.QueueID, Segment: ref.Segment, Offset: ref.Offset, Length: ref.Length}}})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, e.ID)
	}
	return ids
}

const (
	anaMail   = "ana@example.test"
	brunoMail = "bruno@example.test"
)

func simple(subject, text string) string {
	return "From: Dora <dora@internet.test>\r\nTo: ana@example.test\r\nSubject: " + subject + "\r\n\r\n" + text + "\r\n"
}

func TestArchiveSearch(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	var mails []mail
	for n := range 60 {
		mails = append(mails, mail{Sender: "dora@internet.test", Mailboxes: []string{anaMail}, Body: simple(fmt.Sprintf("Report %d", n), "All is well.")})
	}
	mails = append(mails, mail{Sender: "x@internet.test", Mailboxes: []string{brunoMail}, Body: simple("Only for Bruno", "secret <b>plan</b>")},
		mail{Sender: brunoMail, Direction: archive.Outbound, Recipients: []string{"x@internet.test"}, Mailboxes: []string{brunoMail}, Body: "From: bruno@example.test\r\nSubject: To some\r\n\r\n."})
	s.archived(t, mails...)
	v := s.as(t, anaMail)
	_, body := v.get("/archive")
	has(t, body, "Report 59", "Report 10", "Dora &lt;dora@internet.test&gt;", `data-testid="next"`)
	lacks(t, body, "Report 9<", "Bruno", `data-testid="redeliver-all"`, `name="mailbox"`)
	_, rest, _ := strings.Cut(body, `href="/archive?page=`)
	cursor, _, _ := strings.Cut(rest, `"`)
	_, body = v.get("/archive?page=" + cursor)
	has(t, body, "Report 9<", "Report 0<", "Newest")
	lacks(t, body, "Report 10<", `data-testid="next"`)
	_, body = v.get("/archive?q=report+subject:7")
	has(t, body, "Report 7<", `value="report subject:7"`, "/archive/redeliver?q=report")
	lacks(t, body, "Report 17")
	if _, body = v.get("/archive?q=secret"); !strings.Contains(body, "No message was found") {
		t.Error("a colleague's mail is found")
	}
	status, body := v.get("/archive?q=report+size:big")
	if status != 422 {
		t.Errorf("a wrong query: %d", status)
	}
	has(t, body, "This search cannot be understood", `report size:<mark data-testid="place">big</mark></pre>`, "size: wants")
	for q, want := range map[string]string{"日本 size:big -x": `日本 size:<mark data-testid="place">big</mark> -x</pre>`, "from:": `from:<mark data-testid="place">^</mark></pre>`, "a OR": `a <mark data-testid="place">OR</mark></pre>`} {
		_, body = v.get("/archive?q=" + url.QueryEscape(q))
		has(t, body, want)
	}
	_, body = v.get("/archive?form=yes&from=dora&words=one+OR+two")
	has(t, body, `value="from:dora (one OR two)"`)
	_, body = v.get("/archive?form=yes&id=<a@b.test>&route=portal&larger=5M&from=")
	has(t, body, `value="id:&lt;a@b.test&gt; route:portal larger:5M"`)
	_, body = v.get("/archive?form=yes&subject=monthly+rep*&words=one")
	has(t, body, `value="subject:&#34;monthly rep&#34;* one"`)
	_, body = v.get("/archive?form=yes&from=dora&subject=report+7&words=well&attachment=&after=2020-01-01")
	has(t, body, `value="from:dora subject:&#34;report 7&#34; after:2020-01-01 well"`, "Report 7<")
	if status, _ := v.get("/archive?page=nonsense"); status != 404 {
		t.Errorf("a wrong cursor: %d", status)
	}
	_, body = s.as(t, "op").get("/archive?q=mailbox:" + brunoMail)
	has(t, body, "Only for Bruno", `name="mailbox"`, "to undisclosed recipients")
	_, body = s.as(t, "other").get("/archive")
	has(t, body, "Nothing is archived yet")
}

func TestRedeliverPages(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	ids := s.archived(t, mail{Sender: "x@internet.test", Mailboxes: []string{anaMail, brunoMail}, Body: simple("one", "needle")},
		mail{Sender: "x@internet.test", Mailboxes: []string{"eva@other.test"}, Body: simple("two", "needle")})
	if _, err := s.Store.SwitchMode(t.Context(), store.Switch{Domain: "other.test", To: "emergency", Actor: "op", Manual: true, Reason: "x"}); err != nil {
		t.Fatal(err)
	}
	op := s.as(t, "op")
	_, body := op.get("/archive/redeliver?q=needle")
	has(t, body, "Deliver 2 messages again?", "2 copies to 2 mailboxes of example.test, on the domain’s own mail server", "1 message to eva@other.test, in the standby portal")
	_, body = op.get("/archive/redeliver?q=needle&mailbox=Bruno@example.test")
	has(t, body, "1 message to bruno@example.test", `name="mailbox" value="bruno@example.test"`)
	_, body = op.get("/archive/redeliver?q=nothing")
	has(t, body, "Nothing to deliver")
	_, body = op.get("/archive/redeliver?q=size:big")
	has(t, body, "This search cannot be understood")
	ana := s.as(t, anaMail)
	_, body = ana.get("/archive/redeliver?id=" + ids[0].String())
	has(t, body, "Deliver this message again?", "1 message to ana@example.test")
	lacks(t, body, "bruno")
	_, body = ana.post("/archive/redeliver", "id", ids[0].String(), "mailbox", brunoMail)
	has(t, body, "0 of 1 delivered", "<progress", "chosen messages", "asked for by ana@example.test", "This page follows by itself")
	list, err := s.Store.Redeliveries(t.Context(), anaMail, 10)
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	items, err := s.Store.DueItems(t.Context(), list[0].ID, "", 10)
	if err != nil || len(items) != 1 || items[0].Mailbox != anaMail {
		t.Errorf("items %+v, %v", items, err)
	}
	path := redeliveryPath(list[0].ID)
	if status, _ := s.as(t, "adm").get(path); status != 404 {
		t.Errorf("an admin sees the redelivery of somebody else: %d", status)
	}
	if status, _ := op.get(path); status != 200 {
		t.Errorf("the operator does not: %d", status)
	}
	_, body = op.post("/archive/redeliver", "q", "needle")
	has(t, body, "Collecting the messages", "all found by needle")
	_, body = ana.get("/redeliveries")
	has(t, body, "chosen messages")
	lacks(t, body, "needle")
	if status, _ := s.visitor(t).get("/archive/redeliver?id=" + ids[0].String()); status != 200 { // of the sign-in page
		t.Error(status)
	}
}

func TestArchiveAPI(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	ids := s.archived(t, mail{Sender: "x@internet.test", Mailboxes: []string{anaMail}, Body: simple("one", "needle")},
		mail{Sender: "x@internet.test", Mailboxes: []string{"eva@other.test"}, Body: simple("two", "needle")},
		mail{Sender: "x@internet.test", Mailboxes: []string{anaMail}, Body: simple("three", "needle")})
	get := func(login, path string, status int, wants ...string) string {
		t.Helper()
		got, body := apiCall(t, s, "GET", path, login, pass, "")
		if got != status {
			t.Errorf("%s as %s: %d %s", path, login, got, body)
		}
		has(t, body, wants...)
		return body
	}
	body := get("adm", "/api/archive?q=needle&limit=1", 200, `"subject":"three"`, `"next":"`)
	_, rest, _ := strings.Cut(body, `"next":"`)
	next, _, _ := strings.Cut(rest, `"`)
	body = get("adm", "/api/archive?q=needle&limit=1&page="+next, 200, `"subject":"one"`)
	lacks(t, body, `"next"`, "two")
	get("op", "/api/archive?q=subject:two", 200, `"subject":"two"`)
	get("adm", "/api/archive?q=size:big", 422, "at byte 5")
	get("adm", "/api/archive?limit=0", 422, "between 1 and 500")
	get("adm", "/api/archive?page=x", 422, "page")
	get(anaMail, "/api/archive", 403)
	if body := get("adm", "/api/archive/"+ids[0].String()+"/source", 200); body != simple("one", "needle") {
		t.Errorf("source %q", body)
	}
	get("adm", "/api/archive/"+ids[1].String()+"/source", 404)
	get("adm", "/api/archive/nonsense/source", 404)
	if lines, err := s.Store.Audit(t.Context(), "example.test", 0, 10); err != nil || len(lines) != 1 || lines[0].Action != store.ActionDownload {
		t.Errorf("audit %+v, %v", lines, err)
	}
}
