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

// TestJudgementExpires: a worker that is gone does not make a primary fail for
// ever; one that says it again does, for as long as it does.
func TestJudgementExpires(t *testing.T) {
	t.Parallel()
	begun := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	at := func(m int) time.Time { return begun.Add(time.Duration(m) * time.Minute) }
	var f fallbacks
	for _, tt := range []struct {
		name    string
		version int64
		failing bool
		after   int // minutes
		want    bool
	}{
		{"first heard of", 7, true, 0, true},
		{"still believed", 7, true, 29, true},
		{"too old", 7, true, 30, false},
		{"still too old", 7, true, 500, false},
		{"said again", 8, true, 501, true},
		{"and again", 9, true, 511, true},
		{"counted from the last time", 9, true, 540, true},
		{"over", 10, false, 541, false},
		{"a new failure", 11, true, 542, true},
	} {
		if got := f.failing(&directory.Domain{ID: 1, Version: tt.version, PrimaryFailing: tt.failing}, at(tt.after)); got != tt.want {
			t.Errorf("%s: failing = %v, want %v", tt.name, got, tt.want)
		}
	}
	old := &directory.Domain{ID: 2, Version: 7, PrimaryFailing: true}
	f.failing(old, at(0))
	f.note(old, at(60))
	if !f.failing(old, at(60)) || f.failing(old, at(61)) {
		t.Error("what we see ourselves counts also when the worker's word is old")
	}
}
