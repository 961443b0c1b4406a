package web

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"understudy/internal/archive"
	"understudy/internal/mime"
)

// odd is a message with everything: alternatives, a picture of its own, and a
// file with a name that lies.
const odd = "From: Dora <dora@internet.test>\r\nTo: ana@example.test\r\nCc: bruno@example.test\r\nSubject: =?utf-8?q?Ol=C3=A1?= <b>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=M\r\n\r\n" +
	"--M\r\nContent-Type: multipart/alternative; boundary=A\r\n\r\n--A\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nplain <i>words</i>\r\n" +
	"--A\r\nContent-Type: multipart/related; boundary=R\r\n\r\n--R\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<h2>Formatted</h2><script>x()</script><img src=\"cid:pic@x\"><img src=\"http://track.test/p.png\">\r\n" +
	"--R\r\nContent-Type: image/png\r\nContent-ID: <pic@x>\r\nContent-Transfer-Encoding: base64\r\n\r\niVBORw0KGgo=\r\n--R--\r\n--A--\r\n" +
	"--M\r\nContent-Type: text/html; name=\"../../evil.html\"\r\nContent-Disposition: attachment; filename=\"../../evil.html\"\r\n\r\n<script>alert(1)</script>\r\n" +
	"--M\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename*=utf-8''fact%C3%BAra%E2%80%AEfdp.exe\r\nContent-Transfer-Encoding: base64\r\n\r\nAAECAwQ=\r\n--M--\r\n"

func TestMessageView(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	id := s.archived(t, mail{Sender: "dora@internet.test", Mailboxes: []string{anaMail, brunoMail}, Route: []string{"primary", "portal"}, Body: odd})[0].String()
	v := s.as(t, anaMail)
	status, body := v.get("/archive/" + id)
	lacks(t, body, "standby portal")
	if status != 200 {
		t.Fatal(status, body)
	}
	has(t, body, "Olá &lt;b&gt;", "Dora &lt;dora@internet.test&gt;", `src="/archive/`+id+`/frame"`, `sandbox="allow-popups allow-popups-to-escape-sandbox"`,
		"Pictures from other servers are not loaded", "evil.html", "factúrafdp.exe", "5 bytes")
	lacks(t, body, "<script", "../", "192.0.2.7", "allow-scripts", "allow-same-origin")
	_, body = v.get("/archive/" + id + "?as=text")
	has(t, body, "plain &lt;i&gt;words&lt;/i&gt;", "image/png")
	resp, body := v.raw("/archive/" + id + "/frame")
	has(t, body, "<h2>Formatted</h2>", `src="data:image/png;base64,iVBORw0KGgo="`)
	lacks(t, body, "script", "track.test")
	if csp := resp.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "sandbox ") || strings.Contains(csp, "allow-scripts") {
		t.Errorf("CSP of the frame: %s", csp)
	}
	resp, body = v.raw("/archive/" + id + "/download")
	if body != odd || resp.Header.Get("Content-Type") != "application/octet-stream" || resp.Header.Get("X-Content-Type-Options") != "nosniff" || !strings.HasPrefix(resp.Header.Get("Content-Disposition"), "attachment; filename=") {
		t.Errorf("the download is not the message: %v\n%q", resp.Header, body)
	}
	for number, want := range map[string]string{"1": "<script>alert(1)</script>", "2": "\x00\x01\x02\x03\x04"} {
		resp, body = v.raw("/archive/" + id + "/files/" + number)
		if body != want || resp.Header.Get("Content-Type") != "application/octet-stream" || !strings.HasPrefix(resp.Header.Get("Content-Disposition"), "attachment; filename") || strings.Contains(resp.Header.Get("Content-Disposition"), "..") {
			t.Errorf("file %s: %q, %v", number, body, resp.Header)
		}
	}
	for _, path := range []string{"/files/3", "/files/-1", "/files/x", "/nothing"} {
		if status, _ := v.get("/archive/" + id + path); status != 404 {
			t.Errorf("%s: %d", path, status)
		}
	}
	_, body = v.get("/archive/" + id + "/source")
	has(t, body, "Content-Type: multipart/mixed; boundary=M", "&lt;script&gt;")
	if lines, err := s.Store.Audit(t.Context(), "example.test", 0, 10); err != nil || len(lines) != 0 {
		t.Errorf("an owner's look at their own mail is noted: %+v, %v", lines, err)
	}
	_, body = s.as(t, "op").get("/archive/" + id)
	has(t, body, `data-testid="route">the domain’s own mail server, the standby portal<`)
}

// raw is get with the answer's header.
func (v *visitor) raw(path string) (*http.Response, string) {
	v.t.Helper()
	resp, err := v.client.Get(v.base + path)
	if err != nil {
		v.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return resp, string(body)
}

func TestMessagesOfOthers(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	bcc := "From: ana@example.test\r\nTo: bruno@example.test\r\nBcc: eva@other.test,\r\n\tsecret@internet.test\r\nSubject: hello\r\n\r\nBcc: in the text\r\n"
	ids := s.archived(t,
		mail{Sender: anaMail, Direction: archive.Internal, Recipients: []string{brunoMail, "eva@other.test", "secret@internet.test"}, Mailboxes: []string{anaMail, brunoMail, "eva@other.test"}, Body: bcc},
		mail{Sender: "x@internet.test", Mailboxes: []string{brunoMail}, Body: simple("for Bruno", "x")})
	shared, brunos := ids[0].String(), ids[1].String()
	for _, login := range []string{anaMail, "other", "eva@other.test"} {
		v := s.as(t, login)
		for _, path := range []string{"", "/frame", "/source", "/download", "/files/0"} {
			if status, body := v.get("/archive/" + brunos + path); status != 404 {
				t.Errorf("%s sees %s: %d\n%s", login, path, status, body)
			}
		}
		if status, _ := v.post("/archive/redeliver", "id", brunos, "mailbox", anaMail); status != 422 {
			t.Errorf("%s has a message of others delivered: %d", login, status)
		}
	}
	for login, knows := range map[string]bool{anaMail: true, "op": true, "adm": true, brunoMail: false, "eva@other.test": false, "other": false} {
		v := s.as(t, login)
		for _, path := range []string{"", "/source", "/download"} {
			status, body := v.get("/archive/" + shared + path)
			if status != 200 || strings.Contains(body, "secret@internet.test") != knows {
				t.Errorf("%s at %q: %d, want to see the Bcc: %v\n%s", login, path, status, knows, body)
			}
			if path == "/download" && (!strings.HasSuffix(body, "\r\n\r\nBcc: in the text\r\n") || knows && body != bcc) {
				t.Errorf("%s: changed more than the Bcc: %q", login, body)
			}
		}
	}
	_, page := s.as(t, "adm").get("/domains/example.test/audit")
	has(t, page, "adm", "op", "read", "read the source of", "downloaded (the message)", anaMail, brunoMail)
	lacks(t, page, "eva@other.test")
	_, page = s.as(t, "other").get("/domains/other.test/audit")
	has(t, page, "eva@other.test")
	if status, _ := s.as(t, "other").get("/domains/example.test/audit"); status != 404 {
		t.Errorf("another domain's audit: %d", status)
	}
	if status, _ := s.as(t, brunoMail).get("/domains/example.test/audit"); status != 404 {
		t.Errorf("a mailbox owner reads the audit: %d", status)
	}
}

// TestEncryptedMessage: with the key as any other, without it the page says why.
func TestEncryptedMessage(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	s.Recipients = []age.Recipient{key.Recipient()}
	id := s.archived(t, mail{Sender: "x@internet.test", Mailboxes: []string{anaMail}, Body: simple("Plan", "Geheimnis")})[0]
	v := s.as(t, anaMail)
	for _, path := range []string{"", "/source", "/download"} {
		if status, body := v.get("/archive/" + id.String() + path); status != 503 || !strings.Contains(body, "This message is encrypted") || strings.Contains(body, "Geheimnis") {
			t.Errorf("%s without the key: %d %s", path, status, body)
		}
	}
	s.Identities.Store(&[]age.Identity{key})
	for _, path := range []string{"", "/source", "/download"} {
		if status, body := v.get("/archive/" + id.String() + path); status != 200 || !strings.Contains(body, "Geheimnis") {
			t.Errorf("%s with the key: %d %s", path, status, body)
		}
	}
	if _, page := v.get("/archive?q=geheimnis"); !strings.Contains(page, "Plan") {
		t.Error("the search does not find it")
	}
}

// TestPicturesNotShown: a picture that the formatted message does not show is
// among the files.
func TestPicturesNotShown(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	picture := func(id, name, kind string) string {
		return "--R\r\nContent-Type: " + kind + "; name=" + name + "\r\nContent-ID: <" + id + ">\r\nContent-Transfer-Encoding: base64\r\n\r\niVBORw0KGgo=\r\n"
	}
	body := "Subject: x\r\nContent-Type: multipart/related; boundary=R\r\n\r\n--R\r\nContent-Type: text/html\r\n\r\n<h1>1</h1><img src=\"cid:shown@x\">" +
		"<p style=\"background: url(cid:style@x)\">cid:text@x</p><img src=\"cid:svg@x\">\r\n" +
		picture("shown@x", "shown.png", "image/png") + picture("shown@x", "second.png", "image/png") + picture("1", "one.png", "image/png") +
		picture("style@x", "style.png", "image/png") + picture("text@x", "text.png", "image/png") + picture("svg@x", "svg.svg", "image/svg+xml") + "--R--\r\n"
	id := s.archived(t, mail{Sender: "x@internet.test", Mailboxes: []string{anaMail}, Body: body})[0]
	v := s.as(t, anaMail)
	_, page := v.get("/archive/" + id.String())
	has(t, page, "second.png", "one.png", "style.png", "text.png", "svg.svg")
	lacks(t, page, "shown.png")
	_, page = v.get("/archive/" + id.String() + "?as=text")
	has(t, page, "shown.png", "second.png")
	_, page = v.get("/archive/" + id.String() + "/frame")
	if n := strings.Count(page, "data:image/png"); n != 1 {
		t.Errorf("%d pictures in the frame: %s", n, page)
	}
}

func TestMessageThatIsGone(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	id := s.archived(t, mail{Sender: "x@internet.test", Mailboxes: []string{anaMail}, Body: simple("one", "x")})[0]
	if _, err := s.Store.Pool.Exec(t.Context(), `UPDATE message SET seg_offset = seg_offset + 1`); err != nil {
		t.Fatal(err)
	}
	v := s.as(t, anaMail)
	for _, path := range []string{"", "/source", "/download", "/frame"} {
		if status, body := v.get("/archive/" + id.String() + path); status != 404 || !strings.Contains(body, "cannot be read") {
			t.Errorf("%s: %d", path, status)
		}
	}
}

// TestHostileMail: pages of messages that are meant to hurt end in time.
func TestHostileMail(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	nested := strings.Builder{}
	for i := range 5000 {
		fmt.Fprintf(&nested, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
	}
	bodies := []string{nested.String(), "Content-Type: multipart/mixed; boundary=X\r\n\r\n" + strings.Repeat("--X\r\n\r\nx\r\n", 100_000),
		"Content-Type: text/html\r\n\r\n" + strings.Repeat("<div>", 100_000) + "x", "Subject: " + strings.Repeat("a", 4<<20), string(make([]byte, 1<<20)), "",
		"Content-Type: text/html\r\n\r\n<p style=\"" + strings.Repeat("color:red;", 10_000) + "\">x",
		"Content-Type: text/html\r\n\r\n" + strings.Repeat("<p>\r\n", 1000) + "<p style=\"color:" + strings.Repeat(strings.Repeat(`\61`, 1000)+"\r\n", 650) + "\">x"}
	var mails []mail
	for _, b := range bodies {
		mails = append(mails, mail{Sender: "x@internet.test", Mailboxes: []string{anaMail}, Body: b})
	}
	v := s.as(t, anaMail)
	for i, id := range s.archived(t, mails...) {
		for _, path := range []string{"", "/frame", "/source", "/download", "/files/0"} {
			began := time.Now()
			status, body := v.get("/archive/" + id.String() + path)
			if !slices.Contains([]int{200, 404, 422}, status) || time.Since(began) > 2*time.Minute {
				t.Errorf("message %d %s: %d after %v: %.300s", i, path, status, time.Since(began), body)
			}
			if path == "/download" && body != bodies[i] {
				t.Errorf("message %d: %d bytes downloaded, want %d", i, len(body), len(bodies[i]))
			}
		}
	}
}

// TestFileNames: none leads out of its directory, and one that is made up says
// what to open the file with.
func TestFileNames(t *testing.T) {
	t.Parallel()
	for want, p := range map[string]mime.Part{
		"passwd":     {Name: `..\../etc/passwd`},
		"part-2.eml": {Number: 1, Type: "message/rfc822"},
		"part-3":     {Number: 2, Name: " ..", Type: "application/octet-stream"},
	} {
		if got := fileName(&p); got != want {
			t.Errorf("%+v: %q, want %q", p, got, want)
		}
	}
}
