package web

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"understudy/internal/store"
)

func newRegistry() *prometheus.Registry { return prometheus.NewRegistry() }

func recordSignIn(site *Site) *httptest.ResponseRecorder {
	form := url.Values{"login": {"op"}, "password": {pass}}
	r := httptest.NewRequest(http.MethodPost, site.PublicURL+"/login", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	site.Handler().ServeHTTP(w, r)
	return w
}

var secretShown = regexp.MustCompile(`data-testid="secret">([0-9a-z-]+)<`)

func secret(t *testing.T, body string) string {
	t.Helper()
	m := secretShown.FindStringSubmatch(body)
	if m == nil {
		t.Fatalf("no password is shown:\n%s", body)
	}
	return m[1]
}

func TestMailboxes(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	v := s.as(t, "adm")
	const box = "/domains/example.test/mailboxes/carla@example.test"
	_, body := v.post("/domains/example.test/mailboxes", "local", "Carla", "name", "Carla <C>", "covered", "yes")
	first := secret(t, body)
	if status, _ := s.visitor(t).signIn("carla@example.test", first); status != 200 {
		t.Errorf("the password shown does not work: %d", status)
	}
	for typed, want := range map[string]string{"carla": "is a mailbox or an alias", "x@other.test": "is of other.test", "a+b": "leave out", "a b": "is no address", "": "is no address"} {
		status, body := v.post("/domains/example.test/mailboxes", "local", typed)
		if status != 422 || !strings.Contains(body, want) {
			t.Errorf("add %q: %d, page lacks %q", typed, status, want)
		}
	}
	_, body = v.get(box)
	has(t, body, "Carla &lt;C&gt;", `data-testid="mailbox-address">carla@example.test`)
	_, body = v.post(box, "name", "Carla C", "enabled", "yes")
	has(t, body, "Saved.", `value="Carla C"`)
	_, body = v.post(box+"/password", "password", "short")
	has(t, body, "too short")
	_, body = v.post(box+"/password", "password", "chosen by the admin")
	has(t, body, "The password is set")
	if status, _ := s.visitor(t).signIn("carla@example.test", "chosen by the admin"); status != 200 {
		t.Errorf("the password set does not work: %d", status)
	}
	_, body = v.post(box + "/password")
	if again := secret(t, body); again == first {
		t.Error("the same password was made twice")
	}
	_, body = v.post(box+"/aliases", "alias", "info")
	has(t, body, "Alias info@example.test is added", `data-testid="remove-info@example.test"`)
	_, body = v.post(box+"/aliases", "alias", "ana")
	has(t, body, `data-testid="problem"`, `value="ana"`)
	if status, _ := v.post("/domains/example.test/mailboxes/ana@example.test/aliases/remove", "alias", "info@example.test"); status != 404 {
		t.Errorf("another mailbox's alias was removed: %d", status)
	}
	_, body = v.get("/domains/example.test/mailboxes?q=INFO@")
	has(t, body, "mailbox-carla@example.test")
	lacks(t, body, "mailbox-ana@example.test")
	_, body = v.post(box+"/aliases/remove", "alias", "info@example.test")
	has(t, body, "is removed")
	_, body = v.get(box + "/remove")
	has(t, body, "Remove carla@example.test?")
	_, body = v.post(box + "/remove")
	has(t, body, "carla@example.test is removed")
	if status, _ := v.get(box); status != 404 {
		t.Errorf("a removed mailbox has a page: %d", status)
	}
}

func TestMailboxPaging(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	var boxes []store.NewMailbox
	for i := range 2*mailboxesPerPage + 5 {
		boxes = append(boxes, store.NewMailbox{Address: fmt.Sprintf("p%03d_%%x@example.test", i), Covered: true})
	}
	if err := s.Store.AddMailboxes(t.Context(), boxes...); err != nil {
		t.Fatal(err)
	}
	v := s.as(t, "adm")
	next := "/domains/example.test/mailboxes?q=_%25X" // taken literally: no pattern
	seen := map[string]bool{}
	link := regexp.MustCompile(`href="([^"]+)" data-testid="next"`)
	row := regexp.MustCompile(`data-testid="mailbox-(p[^"]+)"`)
	pages := 0
	for ; next != "" && pages < 10; pages++ {
		_, body := v.get(next)
		for _, m := range row.FindAllStringSubmatch(body, -1) {
			seen[m[1]] = true
		}
		next = ""
		if m := link.FindStringSubmatch(body); m != nil {
			next = strings.ReplaceAll(m[1], "&amp;", "&")
		}
	}
	if pages != 3 || len(seen) != len(boxes) {
		t.Errorf("%d mailboxes on %d pages, want %d on 3", len(seen), pages, len(boxes))
	}
}

func TestOwnPage(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	v, elsewhere := s.as(t, "ana@example.test"), s.as(t, "ana@example.test")
	_, body := v.get("/me")
	has(t, body, "delivered to your usual mail server", "https://webmail.example.test/", "imap.example.test:993")
	lacks(t, body, "bruno", "other.test", "127.0.0.1:2525")

	if status, body := v.post("/me/password", "old", "not this", "new", "a brand new one", "again", "a brand new one"); status != 422 || !strings.Contains(body, "present password is wrong") {
		t.Errorf("wrong old password: %d", status)
	}
	_, body = v.post("/me/password", "old", pass, "new", "a brand new one", "again", "another new one")
	has(t, body, "typed differently")
	_, body = v.post("/me/password", "old", pass, "new", "short", "again", "short")
	has(t, body, "too short")
	_, body = v.post("/me/password", "old", pass, "new", "a brand new one", "again", "a brand new one")
	has(t, body, "Your password is changed", `data-testid="sign-out"`)
	if _, body := elsewhere.get("/me"); !strings.Contains(body, `data-testid="login-form"`) {
		t.Error("the other browser is still signed in")
	}
	if status, _ := s.visitor(t).signIn("ana@example.test", "a brand new one"); status != 200 {
		t.Errorf("the new password does not work: %d", status)
	}
	_, body = v.post("/me/app-passwords", "label", "phone <1>")
	secret(t, body)
	has(t, body, "phone &lt;1&gt;")
	_, body = v.post("/me/app-passwords", "label", "phone <1>")
	has(t, body, "choose another name")
	_, body = v.post("/me/app-passwords/remove", "label", "phone <1>")
	has(t, body, "is ended")

	op := s.as(t, "op")
	_, body = op.get("/me")
	has(t, body, "Change your password")
	lacks(t, body, "app-passwords")
	if status, _ := op.post("/me/app-passwords", "label", "x"); status != 404 {
		t.Errorf("an account made an app password: %d", status)
	}
	_, body = op.post("/me/password", "old", pass, "new", "operators new one", "again", "operators new one")
	has(t, body, "Your password is changed")
}

func TestOwnPageInEmergency(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	if _, err := s.Store.SwitchMode(t.Context(), store.Switch{Domain: "example.test", To: "emergency", Actor: "op", Manual: true, Reason: "secret reason"}); err != nil {
		t.Fatal(err)
	}
	v := s.as(t, "ana@example.test")
	_, body := v.get("/me")
	has(t, body, "New mail is here, in the standby mailbox", "https://webmail.example.test/")
	lacks(t, body, "secret reason")
	no := false
	scope := "selected"
	if _, err := s.Store.Pool.Exec(t.Context(), "UPDATE domain SET scope = $1", scope); err != nil {
		t.Fatal(err)
	}
	if err := s.Store.SetMailbox(t.Context(), "ana@example.test", store.MailboxChange{Covered: &no}); err != nil {
		t.Fatal(err)
	}
	_, body = v.get("/me")
	has(t, body, "Your mail waits and is delivered when it is back")
}
