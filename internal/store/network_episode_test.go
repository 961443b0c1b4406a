package store

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestNetworkEpisodes: what the worker sees in a row is one row, also when
// another worker goes on; a domain sees what happened in its time.
func TestNetworkEpisodes(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), t.Context()
	domain := addDomain(t, s)
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	if _, err := s.Pool.Exec(ctx, `UPDATE domain SET created_at = $1`, at); err != nil {
		t.Fatal(err)
	}
	after := func(seconds int) time.Time { return at.Add(time.Duration(seconds) * time.Second) }
	saw := func(view string, since, checked int) {
		t.Helper()
		ok(t, s.SaveVantage(ctx, Vantage{View: view, Detail: "evidence for " + view, Since: after(since), CheckedAt: after(checked)}))
	}
	want := func(want ...NetworkEpisode) {
		t.Helper()
		got, err := s.NetworkEpisodes(ctx, domain, 10)
		for i := range got {
			got[i].ID = 0
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(time.Time.Equal)); diff != "" || err != nil {
			t.Errorf("%v\n%s", err, diff)
		}
	}
	ended := func(seconds int) *time.Time { e := after(seconds); return &e }

	saw("second-look", -100, -100) // before there was the domain
	saw("clear", -50, -50)
	if got, err := s.NetworkEpisodes(ctx, domain, 10); len(got) != 0 || err != nil {
		t.Errorf("%+v, %v", got, err)
	}
	saw("second-look", 0, 0)
	saw("second-look", 0, 20)
	want(NetworkEpisode{Began: after(0), Outcome: "second-look", Reason: "evidence for second-look"})
	saw("own-network", 30, 30)
	saw("own-network", 30, 50)
	saw("settling", 600, 600)
	own := NetworkEpisode{Began: after(0), Outcome: "own-network", Reason: "evidence for own-network"}
	want(own)
	saw("second-look", 610, 610) // and again
	saw("own-network", 640, 640)
	want(own)
	saw("second-look", 700, 700) // a witness answers
	saw("confirmed", 730, 730)
	own.Ended = ended(730)
	sure := NetworkEpisode{Began: after(730), Outcome: "confirmed", Reason: "evidence for confirmed"}
	want(sure, own)
	saw("clear", 800, 800)
	saw("clear", 800, 820)
	sure.Ended = ended(800)
	want(sure, own)
	saw("second-look", 900, 900) // a blink
	saw("settling", 901, 901)
	saw("clear", 931, 931)
	want(NetworkEpisode{Began: after(900), Ended: ended(931), Outcome: "second-look", Reason: "evidence for second-look"}, sure, own)
}
