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
	for i, failing := range []bool{false, true} {
		ok(t, s.SetPrimaryFailing(t.Context(), domain, failing))
		set := version()
		ok(t, s.ConfirmPrimaryFailing(t.Context(), domain)) // all who follow the directory hear of it, if it is so
		if v := version(); v != set+int64(i) {
			t.Errorf("confirmed while failing is %v: version %d, was %d", failing, v, set)
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

func TestVantage(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	if v, err := s.Vantage(t.Context()); v != nil || err != nil {
		t.Errorf("before the first word: %+v, %v", v, err)
	}
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, want := range []Vantage{{"own-network", "5 of 6 primaries fail at once", at, at}, {"clear", "", at.Add(time.Minute), at.Add(2 * time.Minute)}} {
		if err := s.SaveVantage(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		got, err := s.Vantage(t.Context())
		if diff := cmp.Diff(&want, got, cmp.Comparer(time.Time.Equal)); diff != "" || err != nil {
			t.Error(diff, err)
		}
		if got.Unusual() != (want.View != "clear") {
			t.Errorf("%s: unusual %v", want.View, got.Unusual())
		}
	}
}

// TestAcceptedSince counts mailboxes, of some domains, from a moment on, and
// not what users sent.
func TestAcceptedSince(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ctx := t.Context()
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	if _, err := s.Pool.Exec(ctx, `SELECT ensure_message_partition($1)`, at); err != nil {
		t.Fatal(err)
	}
	for i, m := range []struct {
		after     time.Duration
		direction string
		boxes     []string
	}{
		{-time.Second, "inbound", []string{"ana@a.test"}},
		{0, "inbound", []string{"ana@a.test", "bruno@a.test"}},
		{time.Second, "internal", []string{"ana@a.test", "ana@b.test"}},
		{time.Second, "outbound", []string{"ana@a.test"}},
		{time.Second, "inbound", []string{"ana@c.test"}},
	} {
		_, err := s.Pool.Exec(ctx, `WITH m AS (INSERT INTO message (id, received, direction, sender, recipients, subject, from_header, to_header, message_id, size, attachments, segment, seg_offset, seg_length, ord, cc_header, route)
			VALUES (gen_random_uuid(), $1, $2, '', '{}', '', '', '', '', 1, '{}', 'x', 0, 0, $4, '', '{}') RETURNING received, id)
			INSERT INTO message_mailbox SELECT received, id, box, split_part(box, '@', 2) FROM m, unnest($3::text[]) AS box`, at.Add(m.after), m.direction, m.boxes, i)
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		domains []string
		since   time.Duration
		want    int
	}{
		{[]string{"a.test"}, 0, 3}, {[]string{"a.test", "b.test"}, 0, 4}, {[]string{"a.test"}, -time.Minute, 4},
		{[]string{"a.test"}, time.Second, 1}, {[]string{"gone.test"}, 0, 0}, {nil, 0, 0},
	} {
		if n, err := s.AcceptedSince(ctx, c.domains, at.Add(c.since)); n != c.want || err != nil {
			t.Errorf("%v since %v: %d, %v; want %d", c.domains, c.since, n, err, c.want)
		}
	}
}
