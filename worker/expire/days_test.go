package expire

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"understudy/internal/archive"
	"understudy/internal/store"
	"understudy/internal/store/storetest"
)

// domain registers example.test with a retention.
func domain(t *testing.T, s *store.Store, days int) {
	t.Helper()
	if _, err := s.Pool.Exec(t.Context(), `INSERT INTO domain (name, primaries, retention_days) VALUES ('example.test', '{127.0.0.1:25}', $1)`, days); err != nil {
		t.Fatal(err)
	}
}

func exists(t *testing.T, path string) bool {
	t.Helper()
	_, err := os.Stat(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return err == nil
}

// TestEmptyDays: the directory of a day goes when it is empty, and not while
// the writer may seal into it.
func TestEmptyDays(t *testing.T) {
	t.Parallel()
	s, dir, now := storetest.Open(t, cluster), t.TempDir(), time.Now().UTC()
	for _, d := range []string{"2020-01-01", "2020-01-02", "2020-01-03", "open", "other", now.Format(time.DateOnly)} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	name := "20200102T120000.000000Z-0123456789abcdef.tar.zst"
	for _, f := range []string{"open/" + name, "2020-01-03/foreign"} {
		if err := os.WriteFile(filepath.Join(dir, f), nil, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	x := newExpiry(s, dir, "gw1")
	check := func(want map[string]bool) {
		t.Helper()
		if err := x.once(t.Context(), now); err != nil {
			t.Fatal(err)
		}
		for d, there := range want {
			if got := exists(t, filepath.Join(dir, d)); got != there {
				t.Errorf("%s is there: %v, want %v", d, got, there)
			}
		}
	}
	check(map[string]bool{"2020-01-01": false, "2020-01-02": true, "2020-01-03": true, "other": true, now.Format(time.DateOnly): true})
	if err := os.Rename(filepath.Join(dir, "open", name), filepath.Join(dir, "2020-01-02", name)); err != nil {
		t.Fatal(err)
	}
	check(map[string]bool{"2020-01-02": true})
	if err := archive.RemoveSealed(dir, name); err != nil {
		t.Fatal(err)
	}
	check(map[string]bool{"2020-01-02": false})
}

// TestOtherGateway: a segment on another gateway's disk is left to its worker;
// long after its time it is forgotten all the same. Both may drop a day.
func TestOtherGateway(t *testing.T) {
	t.Parallel()
	s, dir1, dir2, now := storetest.Open(t, cluster), t.TempDir(), t.TempDir(), time.Now().UTC().Truncate(time.Microsecond)
	domain(t, s, 10)
	name := segment(t, dir1, s, "ana@example.test", now.AddDate(0, 0, -10).Add(-time.Minute))
	one, two := newExpiry(s, dir1, "gw1"), newExpiry(s, dir2, "gw2")
	known := func() bool {
		t.Helper()
		at, err := s.SegmentOffsets(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return at[name].Indexed > 0
	}
	if err := two.once(t.Context(), now); err != nil || !known() {
		t.Errorf("%v; another gateway's segment is known: %v", err, known())
	}
	if err := one.once(t.Context(), now); err != nil || known() {
		t.Errorf("%v; its own is known: %v", err, known())
	}
	if list, err := archive.Segments(dir1); err != nil || len(list) != 0 {
		t.Errorf("left: %v, %v", list, err)
	}
	name = segment(t, dir1, s, "ana@example.test", now.AddDate(0, 0, -10).Add(-elsewhere-time.Minute))
	if err := two.once(t.Context(), now); err != nil || known() {
		t.Errorf("%v; of a gateway that is gone it is known: %v", err, known())
	}
	for i := range 8 { // both at once, day by day
		segment(t, t.TempDir(), s, "ana@example.test", now.AddDate(0, 0, -20-i))
	}
	var wg sync.WaitGroup
	for range 2 {
		for _, x := range []*Expiry{one, two} {
			wg.Go(func() {
				if err := x.once(t.Context(), now); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
}

// TestFastClock: by a clock that is a year ahead of the database server's
// nothing goes, whoever has it.
func TestFastClock(t *testing.T) {
	t.Parallel()
	s, dir, now := storetest.Open(t, cluster), t.TempDir(), time.Now().UTC().Truncate(time.Microsecond)
	domain(t, s, 10)
	segment(t, dir, s, "ana@example.test", now.AddDate(0, 0, -9))
	for _, host := range []string{"gw1", "gw2"} {
		if err := newExpiry(s, dir, host).once(t.Context(), now.AddDate(1, 0, 0)); err != nil {
			t.Error(err)
		}
	}
	days, err := s.OldDays(t.Context(), now)
	if list, e := archive.Segments(dir); err != nil || e != nil || len(list) != 1 || len(days) != 1 {
		t.Errorf("segments %v, %v; days %v, %v", list, e, days, err)
	}
}
