package policy

import (
	"testing"
	"time"

	"understudy/internal/directory"
)

func TestFallbackMakesPrimaryFailing(t *testing.T) {
	t.Parallel()
	begun := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	at := func(s int) time.Time { return begun.Add(time.Duration(s) * time.Second) }
	seen := &directory.Domain{ID: 1, Version: 7}
	var f fallbacks
	if f.failing(seen, at(0)) {
		t.Error("failing before anything was seen")
	}
	f.note(seen, at(0))
	tests := []struct {
		name   string
		domain directory.Domain
		after  int
		want   bool
	}{
		{"at once", *seen, 0, true},
		{"within 15 s", *seen, 15, true},
		{"later", *seen, 16, false},
		{"worker judged it healthy since", directory.Domain{ID: 1, Version: 8}, 1, false},
		{"worker judged it failing since", directory.Domain{ID: 1, Version: 8, PrimaryFailing: true}, 1, true},
		{"another domain", directory.Domain{ID: 2, Version: 7}, 1, false},
		{"worker's word alone", directory.Domain{ID: 3, PrimaryFailing: true}, 999, true},
	}
	for _, tt := range tests {
		if got := f.failing(&tt.domain, at(tt.after)); got != tt.want {
			t.Errorf("%s: failing = %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestFallbacksAreForgotten(t *testing.T) {
	t.Parallel()
	begun := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	var f fallbacks
	for i := range 1000 {
		f.note(&directory.Domain{ID: int64(i)}, begun.Add(time.Duration(i)*time.Second))
	}
	if len(f.seen) > 40 {
		t.Errorf("%d fallbacks remembered, want those of about the last 30 s", len(f.seen))
	}
}
