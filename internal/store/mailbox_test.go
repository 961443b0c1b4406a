package store

import (
	"errors"
	"strings"
	"testing"

	"understudy/internal/directory"
)

func TestMailboxes(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ctx := t.Context()
	addDomain(t, s)
	if err := s.AddMailboxes(ctx, NewMailbox{Address: "ana@example.test", Name: "Ana", Covered: true, QuotaBytes: 7, Hash: "h1"}, NewMailbox{Address: "bruno@example.test"}); err != nil {
		t.Fatal(err)
	}
	m, err := s.Mailbox(ctx, Everything, "ana@example.test")
	if err != nil || m.Name != "Ana" || !m.Covered || !m.Enabled || m.QuotaBytes != 7 || !m.HasPassword || m.Domain != "example.test" {
		t.Errorf("got %+v, %v", m, err)
	}
	for name, c := range map[string]struct {
		box  NewMailbox
		want error
	}{
		"taken":         {NewMailbox{Address: "ana@example.test"}, ErrConflict},
		"no domain":     {NewMailbox{Address: "ana@other.test"}, ErrNotFound},
		"not canonical": {NewMailbox{Address: "Eva@example.test"}, ErrInvalid},
		"no address":    {NewMailbox{Address: "eva"}, ErrInvalid},
		"two lines":     {NewMailbox{Address: "eva@example.test", Name: "a\nb"}, ErrInvalid},
		"long name":     {NewMailbox{Address: "eva@example.test", Name: strings.Repeat("ä", 201)}, ErrInvalid},
		"quota":         {NewMailbox{Address: "eva@example.test", QuotaBytes: -1}, ErrInvalid},
	} {
		// All or none: a good one beside it is not added either.
		if err := s.AddMailboxes(ctx, NewMailbox{Address: "good@example.test"}, c.box); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := s.Mailbox(ctx, Everything, "good@example.test"); !errors.Is(err, ErrNotFound) {
		t.Errorf("half of a refused set was added: %v", err)
	}
	no, name := false, "Ana A"
	if err := s.SetMailbox(ctx, "ana@example.test", MailboxChange{Name: &name, Enabled: &no}); err != nil {
		t.Error(err)
	}
	if m, err := s.Mailbox(ctx, Everything, "ana@example.test"); err != nil || m.Name != name || m.Enabled || !m.Covered || m.QuotaBytes != 7 {
		t.Errorf("got %+v, %v", m, err)
	}
	if err := s.SetMailbox(ctx, "eva@example.test", MailboxChange{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown: %v", err)
	}
	if err := s.RemoveMailbox(ctx, "ana@example.test"); err != nil {
		t.Error(err)
	}
	if err := s.RemoveMailbox(ctx, "ana@example.test"); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
}

func TestMailboxSearch(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ctx := t.Context()
	addDomain(t, s)
	if err := s.AddMailboxes(ctx, NewMailbox{Address: "a@example.test", Name: "Ärger"}, NewMailbox{Address: "b_x@example.test"}, NewMailbox{Address: "bxx@example.test"}); err != nil {
		t.Fatal(err)
	}
	if err := s.AddAlias(ctx, "info@example.test", "a@example.test"); err != nil {
		t.Fatal(err)
	}
	for search, want := range map[string]string{"": "a@ b_x@ bxx@", "ärg": "a@", "INFO": "a@", "b_x": "b_x@", "%": "", `\`: "", "zzz": ""} {
		boxes, err := s.Mailboxes(ctx, Everything, MailboxQuery{Domain: "example.test", Search: search, Limit: 10})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, m := range boxes {
			got = append(got, strings.TrimSuffix(m.Address, "example.test"))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("search %q finds %v, want %q", search, got, want)
		}
	}
	if boxes, err := s.Mailboxes(ctx, Everything, MailboxQuery{After: "b_x@example.test", Limit: 10}); err != nil || len(boxes) != 1 {
		t.Errorf("after the second: %d, %v", len(boxes), err)
	}
}

func TestPasswords(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ctx := t.Context()
	addDomain(t, s)
	const ana = "ana@example.test"
	if err := s.AddMailboxes(ctx, NewMailbox{Address: ana}); err != nil {
		t.Fatal(err)
	}
	if m, err := s.MailboxLogin(ctx, ana); err != nil || m.Hash != "" {
		t.Errorf("without a password: %+v, %v", m, err)
	}
	if err := s.AddAppPassword(ctx, ana, " phone ", "app"); err != nil {
		t.Fatal(err)
	}
	if m, err := s.MailboxLogin(ctx, ana); err != nil || m.Hash != "" {
		t.Errorf("an app password is no main password: %+v, %v", m, err)
	}
	for _, hash := range []string{"h1", "h2"} {
		if err := s.SetMailboxPassword(ctx, ana, hash); err != nil {
			t.Fatal(err)
		}
		m, err := s.MailboxLogin(ctx, ana)
		if err != nil || m.Hash != hash {
			t.Errorf("got %+v, %v; want %s", m, err, hash)
		}
		if again, err := s.MailboxLoginByID(ctx, m.ID); err != nil || *again != *m {
			t.Errorf("by id: %+v, %v", again, err)
		}
	}
	if err := s.AddAppPassword(ctx, ana, "phone", "x"); !errors.Is(err, ErrConflict) {
		t.Errorf("same label: %v", err)
	}
	for _, label := range []string{"", strings.Repeat("x", 61), "a\tb"} {
		if err := s.AddAppPassword(ctx, ana, label, "x"); !errors.Is(err, ErrInvalid) {
			t.Errorf("label %q: %v", label, err)
		}
	}
	for i := range MaxAppPasswords {
		err := s.AddAppPassword(ctx, ana, "l"+strings.Repeat("i", i), "x")
		if full := i == MaxAppPasswords-1; full != errors.Is(err, ErrInvalid) {
			t.Errorf("app password %d: %v", i+2, err)
		}
	}
	if list, err := s.AppPasswords(ctx, ana); err != nil || len(list) != MaxAppPasswords || list[0].Label != "phone" {
		t.Errorf("got %d, %v", len(list), err)
	}
	if err := s.RemoveAppPassword(ctx, ana, "phone"); err != nil {
		t.Error(err)
	}
	for what, err := range map[string]error{"app password removed twice": s.RemoveAppPassword(ctx, ana, "phone"), "password of nobody": s.SetMailboxPassword(ctx, "x@y.test", "h"),
		"app password of nobody": s.AddAppPassword(ctx, "x@y.test", "l", "h")} {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestAliases(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ctx := t.Context()
	addDomain(t, s)
	if _, err := s.AddDomain(ctx, directory.Domain{Name: "other.test", Primaries: []string{"h:1"}}); err != nil {
		t.Fatal(err)
	}
	if err := s.AddMailboxes(ctx, NewMailbox{Address: "ana@example.test"}, NewMailbox{Address: "eva@other.test"}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		alias, mailbox string
		want           error
	}{
		{"info@example.test", "ana@example.test", nil},
		{"info@example.test", "ana@example.test", ErrConflict},
		{"ana@example.test", "ana@example.test", ErrConflict}, // an alias must not hide a mailbox
		{"x@other.test", "ana@example.test", ErrInvalid},
		{"Info@example.test", "ana@example.test", ErrInvalid},
		{"x@example.test", "nobody@example.test", ErrNotFound},
	} {
		if err := s.AddAlias(ctx, c.alias, c.mailbox); !errors.Is(err, c.want) {
			t.Errorf("%s of %s: %v, want %v", c.alias, c.mailbox, err, c.want)
		}
	}
	if err := s.AddMailboxes(ctx, NewMailbox{Address: "info@example.test"}); !errors.Is(err, ErrConflict) {
		t.Errorf("a mailbox hides an alias: %v", err)
	}
	if l, err := s.Aliases(ctx, Everything, "example.test"); err != nil || len(l) != 1 || l[0].Mailbox != "ana@example.test" {
		t.Errorf("got %+v, %v", l, err)
	}
	if l, err := s.Aliases(ctx, Everything, "other.test"); err != nil || len(l) != 0 {
		t.Errorf("of the other domain: %+v, %v", l, err)
	}
	if err := s.RemoveAlias(ctx, "info@example.test"); err != nil {
		t.Error(err)
	}
	if err := s.RemoveAlias(ctx, "info@example.test"); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
}

func TestMailboxStatus(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ctx := t.Context()
	addDomain(t, s)
	if err := s.AddMailboxes(ctx, NewMailbox{Address: "ana@example.test"}); err != nil {
		t.Fatal(err)
	}
	m, err := s.Mailbox(ctx, Everything, "ana@example.test")
	if err != nil {
		t.Fatal(err)
	}
	if st, err := s.MailboxStatus(ctx, m.ID); err != nil || !st.Covered || st.Mode != directory.Normal || st.Domain != "example.test" {
		t.Errorf("got %+v, %v", st, err)
	}
	scope := directory.ScopeSelected
	if _, err := s.SetDomain(ctx, "example.test", DomainChange{Scope: &scope}); err != nil {
		t.Fatal(err)
	}
	if st, err := s.MailboxStatus(ctx, m.ID); err != nil || st.Covered {
		t.Errorf("got %+v, %v", st, err)
	}
}
