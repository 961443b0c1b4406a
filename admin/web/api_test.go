package web

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
)

func apiCall(t *testing.T, s *testSite, method, path, login, plain, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if login != "" {
		req.SetBasicAuth(login, plain)
	}
	return s.visitor(t).do(req)
}

func TestAPI(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	for _, c := range []struct {
		name, method, path, login, password, body string
		status                                    int
		want                                      string
	}{
		{"nobody", "GET", "/api/domains", "", "", "", 401, "wrong"},
		{"wrong", "GET", "/api/domains", "op", "x", "", 401, "wrong"},
		{"mailbox owner", "GET", "/api/domains", "ana@example.test", pass, "", 403, "for accounts"},
		{"operator", "GET", "/api/domains", "op", pass, "", 200, `"name":"other.test"`},
		{"one", "GET", "/api/domains/Example.Test", "adm", pass, "", 200, `"mode":"normal"`},
		{"another's", "GET", "/api/domains/other.test", "adm", pass, "", 404, "not found"},
		{"another's mode", "POST", "/api/domains/other.test/mode", "adm", pass, `{"mode":"emergency"}`, 404, "not found"},
		{"no such route", "GET", "/api/x", "op", pass, "", 404, "not found"},
		{"no JSON", "POST", "/api/domains/example.test/mode", "adm", pass, `mode=emergency`, 422, "want"},
		{"unknown field", "POST", "/api/domains/example.test/mode", "adm", pass, `{"mode":"normal","why":1}`, 422, "want"},
		{"no mode", "POST", "/api/domains/example.test/mode", "adm", pass, `{}`, 422, "emergency or normal"},
	} {
		status, body := apiCall(t, s, c.method, c.path, c.login, c.password, c.body)
		if status != c.status || !strings.Contains(body, c.want) {
			t.Errorf("%s: %d %s", c.name, status, body)
		}
	}
	if _, body := apiCall(t, s, "GET", "/api/domains", "adm", pass, ""); strings.Contains(body, "other.test") {
		t.Errorf("a domain admin sees another's domain: %s", body)
	}
}

func TestAPISwitch(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	set := func(body string) (changed bool, mode string) {
		t.Helper()
		status, out := apiCall(t, s, "POST", "/api/domains/example.test/mode", "adm", pass, body)
		var answer struct {
			Changed bool      `json:"changed"`
			Mode    string    `json:"mode"`
			Since   time.Time `json:"since"`
		}
		if err := json.Unmarshal([]byte(out), &answer); err != nil || status != 200 || time.Since(answer.Since) > 10*time.Minute {
			t.Fatalf("%d %s: %v", status, out, err)
		}
		return answer.Changed, answer.Mode
	}
	if changed, mode := set(`{"mode":"emergency","reason":"monitoring says so"}`); !changed || mode != "emergency" {
		t.Errorf("got %v, %s", changed, mode)
	}
	if changed, mode := set(`{"mode":"emergency"}`); changed || mode != "emergency" {
		t.Errorf("again: %v, %s", changed, mode)
	}
	_, body := apiCall(t, s, "GET", "/api/domains/example.test", "op", pass, "")
	has(t, body, `"actor":"adm"`, `"reason":"monitoring says so"`, `"manual":true`)
	if changed, mode := set(`{"mode":"normal","reason":"fine again"}`); !changed || mode != "normal" {
		t.Errorf("back: %v, %s", changed, mode)
	}
}
