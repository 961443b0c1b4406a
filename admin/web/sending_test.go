package web

import (
	"strings"
	"testing"

	"understudy/internal/store"
)

func execSQL(t *testing.T, s *store.Store, sql string) {
	t.Helper()
	if _, err := s.Pool.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func TestRecipients(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	const page = "/domains/example.test/recipients"
	v := s.as(t, "adm")
	_, body := v.get(page)
	has(t, body, "was not asked yet", `data-testid="no-offers"`, `data-testid="no-refusals"`)
	execSQL(t, s.Store, `INSERT INTO recipient_domain (domain_id, catch_all, catch_all_at) SELECT id, false, now() FROM domain WHERE name = 'example.test'`)
	execSQL(t, s.Store, `INSERT INTO recipient_offer (address, domain_id, state, first_seen, last_seen) SELECT x || '@' || d.name, d.id, 'offered', now(), now()
		FROM domain d, unnest('{dora,emil,"<b>",fritz}'::text[]) x WHERE d.name IN ('example.test', 'other.test')`)
	execSQL(t, s.Store, `INSERT INTO recipient_check (address, domain_id, asked_at, refused_since, marked, reply)
		SELECT address, domain_id, now(), '2026-01-02 03:04:05Z', true, '5.1.1 <no> user' FROM mailbox WHERE address = 'ana@example.test'`)
	_, body = v.get(page)
	has(t, body, "refuses addresses that it does not have", `data-testid="offer-dora@example.test"`, "&lt;b&gt;@example.test", `data-testid="refused-ana@example.test"`,
		"2026-01-02 03:04", "5.1.1 &lt;no&gt; user", "Add all 4")
	lacks(t, body, "other.test")
	_, body = v.post(page+"/accept", "address", "dora@example.test")
	has(t, body, "dora@example.test is added, without a password")
	lacks(t, body, `data-testid="offer-dora@example.test"`)
	if status, _ := v.post(page+"/accept", "address", "emil@other.test"); status != 404 {
		t.Errorf("another domain's offer was accepted: %d", status)
	}
	if status, _ := v.post(page+"/ignore", "address", "emil@other.test"); status != 404 {
		t.Errorf("another domain's offer was ignored: %d", status)
	}
	_, body = v.post(page+"/ignore", "address", "emil@example.test")
	has(t, body, "emil@example.test will not be offered again")
	_, body = v.post(page+"/accept", "all", "yes")
	has(t, body, "2 mailboxes are added", `data-testid="no-offers"`)
	_, body = v.get("/domains/example.test/mailboxes")
	has(t, body, "mailbox-fritz@example.test", "mailbox-dora@example.test")
	lacks(t, body, "mailbox-emil@example.test")
	_, body = v.post(page+"/learn", "learn", "add")
	has(t, body, "Saved.", `<option value="add" selected>`)
	if status, _ := v.post(page+"/learn", "learn", "always"); status < 400 {
		t.Errorf("a setting that does not exist: %d", status)
	}
	execSQL(t, s.Store, `UPDATE recipient_domain SET catch_all = true`)
	_, body = v.get(page)
	has(t, body, "any address", "only the registered mailboxes and aliases get mail")
	if status, _ := v.get("/domains/other.test/recipients"); status != 404 {
		t.Errorf("another domain's page: %d", status)
	}
}

func TestOutbound(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	const page = "/domains/example.test/outbound"
	v, op := s.as(t, "adm"), s.as(t, "op")
	_, body := v.post(page, "name", "relay-1")
	first := secret(t, body)
	_, body = v.get(page)
	has(t, body, `data-testid="account-relay-1"`, "Only the operator changes these")
	lacks(t, body, first)
	for typed, want := range map[string]string{"relay-1": "already exists", "ana@example.test": "is no account name", "": "is no account name"} {
		status, body := v.post(page, "name", typed)
		if status != 422 || !strings.Contains(body, want) {
			t.Errorf("add %q: %d, page lacks %q", typed, status, want)
		}
	}
	_, body = v.post(page+"/password", "name", "relay-1")
	if secret(t, body) == first {
		t.Error("the same password was made twice")
	}
	// An account that also sends for a domain of others is not this admin's to change.
	if err := s.Store.AddOutboundAccount(t.Context(), store.NewOutboundAccount{Name: "shared", Domains: []string{"example.test", "other.test"}, Hash: "x"}); err != nil {
		t.Fatal(err)
	}
	_, body = v.get(page)
	has(t, body, `data-testid="account-shared"`, "and others")
	lacks(t, body, "other.test", "remove-shared")
	for _, what := range []string{"/password", "/remove"} {
		if status, _ := v.post(page+what, "name", "shared"); status != 403 {
			t.Errorf("%s of a shared account: %d", what, status)
		}
		if status, _ := v.post(page+what, "name", "nobody"); status != 404 {
			t.Errorf("%s of no account: %d", what, status)
		}
	}
	if status, _ := v.post(page+"/limits", "mailbox_hour", "100000"); status != 403 {
		t.Errorf("limits by a domain admin: %d", status)
	}
	_, body = op.post(page+"/limits", "mailbox_hour", "50", "network_day", "7000")
	has(t, body, "Saved.", `value="50"`, `value="7000"`)
	if status, _ := op.post(page+"/limits", "mailbox_hour", "many"); status != 422 {
		t.Errorf("a limit that is no number: %d", status)
	}
	_, body = op.post(page+"/remove", "name", "shared")
	has(t, body, "shared is removed")
	_, body = v.post(page+"/remove", "name", "relay-1")
	has(t, body, "relay-1 is removed", `data-testid="no-accounts"`)
}
