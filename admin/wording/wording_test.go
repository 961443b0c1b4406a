package wording

import (
	"strings"
	"testing"
	"time"

	"understudy/internal/directory"
	"understudy/internal/store"
)

func TestMode(t *testing.T) {
	t.Parallel()
	at := time.Date(2001, 2, 3, 3, 12, 5, 0, time.UTC)
	const n, e = directory.Normal, directory.Emergency
	for name, c := range map[string]struct {
		mode   directory.Mode
		manual bool
		line   []store.ModeChange
		want   string
	}{
		"never changed": {n, false, nil, "Mail for a.test goes to its own mail server. It has been so since the domain was added."},
		"detected": {e, false, []store.ModeChange{{To: e, Actor: "detector", Reason: "3 of 3 connects refused."}},
			"Mail for a.test goes to the portal since 3 February 2001, 03:12 UTC, because it was detected: 3 of 3 connects refused. It goes back by itself when the mail server has been well for a while."},
		"by hand": {e, true, []store.ModeChange{{To: n, Observed: true}, {To: e, Actor: "op", Manual: true, Reason: "fire"}},
			"Mail for a.test goes to the portal since 3 February 2001, 03:12 UTC, because op switched it: fire. It stays so until a person switches back."},
		"without a reason": {n, false, []store.ModeChange{{To: n, Actor: "op", Manual: true}},
			"Mail for a.test goes to its own mail server since 3 February 2001, 03:12 UTC, switched by op."},
	} {
		d := &directory.Domain{Name: "a.test", Mode: c.mode, ModeManual: c.manual, ModeSince: at}
		if got := Mode(d, c.line); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, c.want)
		}
	}
}

func TestSince(t *testing.T) {
	t.Parallel()
	at := time.Date(2001, 2, 3, 4, 12, 5, 0, time.FixedZone("CET", 3600))
	if got := since(at, at.Add(20*time.Hour)); got != "03:12 UTC" {
		t.Errorf("of today: %s", got)
	}
	if got := since(at, at.Add(21*time.Hour)); got != "3 February 2001, 03:12 UTC" {
		t.Errorf("of yesterday: %s", got)
	}
}

func TestSteps(t *testing.T) {
	t.Parallel()
	all := &directory.Domain{Scope: directory.ScopeAll, Primaries: []string{"mx:25"}, Activation: directory.Automatic}
	some := &directory.Domain{Scope: directory.ScopeSelected, Primaries: []string{"mx:25"}}
	for want, got := range map[string][]string{"is refused": Steps(all, directory.Emergency), "not covered waits": Steps(some, directory.Emergency),
		"falls back": Steps(all, directory.Normal), "to mx:25 again": Steps(some, directory.Normal)} {
		if !strings.Contains(strings.Join(got, " "), want) {
			t.Errorf("%v lacks %q", got, want)
		}
	}
}

func TestOwn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		m    store.MailboxStatus
		want string
	}{
		{store.MailboxStatus{Mode: directory.Normal}, "usual mail server"},
		{store.MailboxStatus{Mode: directory.Emergency, Covered: true}, "standby mailbox"},
		{store.MailboxStatus{Mode: directory.Emergency}, "Your mail waits"},
	} {
		if got := Own(&c.m); !strings.Contains(got, c.want) {
			t.Errorf("%q lacks %q", got, c.want)
		}
	}
	if Health("healthy") == Health("timeout") || Health("unheard of") != "unheard of" {
		t.Error("health words")
	}
}
