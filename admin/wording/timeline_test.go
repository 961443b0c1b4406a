package wording

import (
	"strings"
	"testing"
	"time"

	"understudy/internal/store"
)

func TestTimeline(t *testing.T) {
	t.Parallel()
	at := func(hour int) time.Time { return time.Date(2001, 2, 3, hour, 0, 0, 0, time.UTC) }
	end := at(5)
	changes := []store.ModeChange{{Reason: "c7", At: at(7)}, {Reason: "c3", At: at(3)}, {Reason: "c1", At: at(1)}}
	episodes := []store.NetworkEpisode{{Reason: "e4", Began: at(4), Ended: &end}, {Reason: "e2", Began: at(2), Ended: &end}}
	var got []string
	for _, e := range Timeline(changes, episodes, 4) {
		switch {
		case e.Change != nil && e.Episode == nil && e.At.Equal(e.Change.At):
			got = append(got, e.Change.Reason)
		case e.Episode != nil && e.At.Equal(e.Episode.Began):
			got = append(got, e.Episode.Reason)
		}
	}
	if strings.Join(got, " ") != "c7 e4 c3 e2" {
		t.Errorf("got %q", got)
	}
	for _, c := range []struct {
		outcome string
		open    bool
		want    string
	}{
		{"own-network", true, "our own network seems to be down: no domain is switched"},
		{"own-network", false, "our own network was down until 3 February 2001, 05:00 UTC: no domain was switched"},
		{"confirmed", true, "most primaries fail at once, and really"},
		{"confirmed", false, "failed at once, and really, until 3 February 2001, 05:00 UTC"},
		{"second-look", true, "no domain is switched before a second look"},
		{"second-look", false, "answered again before a second look"},
	} {
		e := store.NetworkEpisode{Outcome: c.outcome, Ended: &end}
		if c.open {
			e.Ended = nil
		}
		if got := Episode(&e); !strings.Contains(got, c.want) {
			t.Errorf("%+v: %q", c, got)
		}
	}
}
