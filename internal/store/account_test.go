package store

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"

	"understudy/internal/directory"
)

func TestAccounts(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ctx := t.Context()
	addDomain(t, s)
	if _, err := s.AddDomain(ctx, directory.Domain{Name: "other.test", Primaries: []string{"h:1"}}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		account Account
		want    error
	}{
		{Account{Login: " Op ", Role: Operator, Hash: "h"}, nil},
		{Account{Login: "op", Role: Operator, Hash: "h"}, ErrConflict},
		{Account{Login: "adm", Role: DomainAdmin, Hash: "h", Domains: []string{"example.test", "other.test"}}, nil},
		{Account{Login: "x", Role: DomainAdmin, Hash: "h", Domains: []string{"unknown.test"}}, ErrNotFound},
		{Account{Login: "x", Role: Operator, Hash: "h", Domains: []string{"example.test"}}, ErrInvalid},
		{Account{Login: "x", Role: "king", Hash: "h"}, ErrInvalid},
		{Account{Login: "", Role: Operator, Hash: "h"}, ErrInvalid},
		{Account{Login: "a:b", Role: Operator, Hash: "h"}, ErrInvalid}, // HTTP Basic cannot carry it
	} {
		if err := s.AddAccount(ctx, c.account); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v, want %v", c.account, err, c.want)
		}
	}
	adm, err := s.Account(ctx, "ADM")
	if err != nil || !cmp.Equal(adm.Domains, []string{"example.test", "other.test"}) {
		t.Fatalf("got %+v, %v", adm, err)
	}
	hash := "h2"
	if err := s.SetAccount(ctx, "adm", AccountChange{Hash: &hash}); err != nil {
		t.Error(err)
	}
	if a, err := s.AccountByID(ctx, adm.ID); err != nil || a.Hash != hash || len(a.Domains) != 2 {
		t.Errorf("a new password changed more: %+v, %v", a, err)
	}
	if err := s.SetAccount(ctx, "adm", AccountChange{Domains: []string{"other.test"}}); err != nil {
		t.Error(err)
	}
	role := Operator
	if err := s.SetAccount(ctx, "adm", AccountChange{Role: &role}); err != nil {
		t.Error(err)
	}
	if a, err := s.AccountByID(ctx, adm.ID); err != nil || a.Role != Operator || len(a.Domains) != 0 {
		t.Errorf("an operator has domains: %+v, %v", a, err)
	}
	if list, err := s.Accounts(ctx); err != nil || len(list) != 2 || list[1].Login != "op" {
		t.Errorf("got %+v, %v", list, err)
	}
	if err := s.RemoveAccount(ctx, "ADM"); err != nil {
		t.Error(err)
	}
	for what, err := range map[string]error{"removed twice": s.RemoveAccount(ctx, "adm"), "set": s.SetAccount(ctx, "adm", AccountChange{Hash: &hash})} {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestSessions(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ctx := t.Context()
	x := s.Sessions()
	for token, expiry := range map[string]time.Time{"live": time.Now().Add(time.Hour), "dead": time.Now().Add(-time.Hour)} {
		for _, data := range []string{"old", token} {
			if err := x.CommitCtx(ctx, token, []byte(data), expiry); err != nil {
				t.Fatal(err)
			}
		}
	}
	if data, found, err := x.FindCtx(ctx, "live"); err != nil || !found || string(data) != "live" {
		t.Errorf("got %q, %v, %v", data, found, err)
	}
	for _, token := range []string{"dead", "unknown"} {
		if _, found, err := x.FindCtx(ctx, token); err != nil || found {
			t.Errorf("%s: %v, %v", token, found, err)
		}
	}
	if err := x.DeleteExpired(ctx); err != nil {
		t.Error(err)
	}
	var n int
	if err := s.Pool.QueryRow(ctx, "SELECT count(*) FROM sessions").Scan(&n); err != nil || n != 1 {
		t.Errorf("%d sessions left, %v", n, err)
	}
	if err := x.DeleteCtx(ctx, "live"); err != nil {
		t.Error(err)
	}
	if _, found, _ := x.FindCtx(ctx, "live"); found {
		t.Error("still there after its end")
	}
}

func TestUnavailable(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := s.Pool.Exec(ctx, "SELECT pg_sleep(10)")
	if !Unavailable(err) {
		t.Errorf("a server that does not answer in time: %v", err)
	}
	_, err = s.Pool.Exec(t.Context(), "SELECT 1/0")
	if err == nil || Unavailable(err) {
		t.Errorf("a wrong statement: %v", err)
	}
	if _, err = s.Account(t.Context(), "nobody"); Unavailable(err) {
		t.Errorf("not found: %v", err)
	}
	if _, err = s.Pool.Exec(t.Context(), "SELECT * FROM no_such_table"); !ForeignSchema(err) || Unavailable(err) {
		t.Errorf("no such table: %v", err)
	}
	_, err = s.Pool.Exec(t.Context(), "SELECT pg_terminate_backend(pg_backend_pid())")
	if !Unavailable(err) {
		t.Errorf("a server that closes the connection: %v", err)
	}
	cfg, err := pgxpool.ParseConfig("postgres://x@127.0.0.1:1/x")
	if err != nil {
		t.Fatal(err)
	}
	dead, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer dead.Close()
	if err := dead.Ready(t.Context()); !Unavailable(err) {
		t.Errorf("a server that is not there: %v", err)
	}
}
