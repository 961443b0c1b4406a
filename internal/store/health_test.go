package store

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"understudy/internal/job"
)

func TestHealth(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ctx := t.Context()
	domain := addDomain(t, s)
	at := func(seconds int) time.Time { return time.Date(2026, 3, 1, 12, 0, seconds, 0, time.UTC) }
	save := func(hosts ...HostHealth) {
		t.Helper()
		if err := s.SaveHealth(ctx, domain, hosts); err != nil {
			t.Fatal(err)
		}
	}
	save(HostHealth{"mx1:25", "healthy", "", at(1), at(1)}, HostHealth{"mx2:25", "healthy", "", at(1), at(1)})
	save(HostHealth{"mx1:25", "healthy", "", at(2), at(2)}, HostHealth{"mx2:25", "timeout", "banner", at(2), at(2)})
	got, err := s.Health(ctx, domain)
	want := []HostHealth{{"mx1:25", "healthy", "", at(1), at(2)}, {"mx2:25", "timeout", "banner", at(2), at(2)}}
	if diff := cmp.Diff(want, got, cmp.Comparer(time.Time.Equal)); diff != "" || err != nil {
		t.Error(diff, err)
	}
	save(HostHealth{"mx3:25", "tls", "", at(3), at(3)})
	if got, err = s.Health(ctx, domain); err != nil || len(got) != 1 || got[0].Host != "mx3:25" {
		t.Errorf("after other primaries were set: %+v, %v", got, err)
	}
	if err := s.SaveHealth(ctx, "gone.test", want); err != nil {
		t.Errorf("a domain that is gone: %v", err)
	}
}

func TestSetPrimaryFailing(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	domain := addDomain(t, s)
	version := func() (v int64) {
		if err := s.Pool.QueryRow(t.Context(), `SELECT version FROM domain WHERE name = $1`, domain).Scan(&v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	before := version()
	for i, failing := range []bool{false, true, true, false} {
		if err := s.SetPrimaryFailing(t.Context(), domain, failing); err != nil {
			t.Fatal(err)
		}
		changes := []int64{0, 1, 1, 2}[i]
		if v := version(); v != before+changes {
			t.Errorf("step %d: version %d, want %d changes since %d", i, v, changes, before)
		}
	}
}

func TestReleaseJobs(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ctx := t.Context()
	for _, domain := range []string{"a.test", "b.test"} {
		if err := s.Enqueue(ctx, job.Drain{Domain: domain}, nil); err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.Pool.Exec(ctx, `UPDATE river_job SET state = 'running', attempt = 20, attempted_at = now(),
		attempted_by = CASE args ->> 'domain' WHEN 'a.test' THEN '{y,x}' ELSE '{x,y}' END::text[]`)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := s.ReleaseJobs(ctx, "x"); n != 1 || err != nil {
		t.Errorf("%d jobs, %v; want 1", n, err)
	}
	var domain string
	var attempts int
	err = s.Pool.QueryRow(ctx, `SELECT args ->> 'domain', max_attempts FROM river_job WHERE state = 'available'`).Scan(&domain, &attempts)
	if err != nil || domain != "a.test" || attempts != 21 {
		t.Errorf("%s, %d attempts, %v", domain, attempts, err)
	}
}
