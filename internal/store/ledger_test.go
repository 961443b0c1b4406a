package store

import (
	"errors"
	"testing"
	"time"

	"understudy/internal/directory"
	"understudy/internal/job"
)

const (
	ana  = "ana@example.test"
	here = "mx1" // a gateway
)

// begin starts the return of a message and checks what the ledger said
// before.
func begin(t *testing.T, s *Store, guid string, want LedgerState) LedgerEntry {
	t.Helper()
	before, err := s.Begin(t.Context(), LedgerKey{here, ana, guid}, "example.test", 1234)
	if err != nil {
		t.Fatal(err)
	}
	if before.State != want {
		t.Fatalf("begin %s: state before is %q, want %q", guid, before.State, want)
	}
	return before
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func counts(t *testing.T, s *Store, want LedgerCounts) {
	t.Helper()
	got, err := s.Counts(t.Context(), "example.test")
	ok(t, err)
	if got != want {
		t.Errorf("counts %+v, want %+v", got, want)
	}
}

func TestLedgerSteps(t *testing.T) {
	t.Parallel()
	s, ctx, k := newStore(t), t.Context(), LedgerKey{here, ana, "g1"}
	begin(t, s, "g1", "")
	ok(t, s.Failed(ctx, k, "451 4.3.0 later"))
	if b := begin(t, s, "g1", Sending); b.Reply != "451 4.3.0 later" || b.Attempts != 1 || b.Size != 1234 {
		t.Errorf("before the second attempt: %+v", b)
	}
	// Nothing was recorded since: as after a crash, the outcome is unknown.
	if b := begin(t, s, "g1", Sending); b.Reply != "" || b.Attempts != 2 {
		t.Errorf("before the third attempt: %+v", b)
	}
	ok(t, s.MarkDone(ctx, here, ana, "g1"))
	counts(t, s, LedgerCounts{Sending: 1}) // not done without sent
	ok(t, s.MarkSent(ctx, k, "250 2.0.0 queued as X"))
	if b := begin(t, s, "g1", Sent); b.Reply != "250 2.0.0 queued as X" {
		t.Errorf("sent: %+v", b)
	}
	for _, err := range []error{s.MarkSent(ctx, k, ""), s.Hold(ctx, k, ""), s.Failed(ctx, k, "")} {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("a step from sending although sent: %v", err)
		}
	}
	ok(t, s.MarkDone(ctx, here, ana, "g1"))
	begin(t, s, "g1", Done)
	counts(t, s, LedgerCounts{Done: 1})
}

func TestLedgerHoldAndRetry(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), t.Context()
	for _, g := range []string{"g1", "g2"} {
		begin(t, s, g, "")
		ok(t, s.Hold(ctx, LedgerKey{here, ana, g}, "550 5.7.1 "+g))
	}
	begin(t, s, "g1", Held)
	held, err := s.HeldMessages(ctx, "example.test", 10)
	if err != nil || len(held) != 2 || held[0].GUID != "g1" || held[0].Reply != "550 5.7.1 g1" {
		t.Errorf("held %+v, %v", held, err)
	}
	if n, err := s.Retry(ctx, "other.test"); err != nil || n != 0 {
		t.Errorf("retry of another domain: %d, %v", n, err)
	}
	if n, err := s.Retry(ctx, "example.test"); err != nil || n != 2 {
		t.Errorf("retry: %d, %v", n, err)
	}
	if b := begin(t, s, "g1", Sending); b.Reply == "" {
		t.Error("a retried message looks like one with an unknown outcome")
	}
	var jobs int
	ok(t, s.Pool.QueryRow(ctx, `SELECT count(*) FROM river_job WHERE kind = 'drain'`).Scan(&jobs))
	if jobs != 1 {
		t.Errorf("%d drain jobs, want 1", jobs)
	}
}

func TestLedgerSettle(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), t.Context()
	for _, g := range []string{"sending", "sending-here", "sent", "sent-here", "held", "held-here"} {
		begin(t, s, g, "")
	}
	for _, g := range []string{"sent", "sent-here"} {
		ok(t, s.MarkSent(ctx, LedgerKey{here, ana, g}, "250"))
	}
	for _, g := range []string{"held", "held-here"} {
		ok(t, s.Hold(ctx, LedgerKey{here, ana, g}, "550"))
	}
	if open, err := s.OpenMailboxes(ctx, here, "example.test"); err != nil || len(open) != 1 || open[0] != ana {
		t.Errorf("open mailboxes %v, %v", open, err)
	}
	ok(t, s.Settle(ctx, here, ana, []string{"sending-here", "sent-here", "held-here"}))
	counts(t, s, LedgerCounts{Sending: 1, Sent: 1, Held: 1, Done: 1})
	ok(t, s.Settle(ctx, here, ana, []string{}))
	counts(t, s, LedgerCounts{Done: 2})
	if open, err := s.OpenMailboxes(ctx, here, "example.test"); err != nil || len(open) != 0 {
		t.Errorf("open mailboxes %v, %v", open, err)
	}
	rows, err := s.LedgerOf(ctx, here, ana)
	if err != nil || len(rows) != 2 || rows["sent"].State != Done || rows["sent-here"].State != Done {
		t.Errorf("ledger %+v, %v", rows, err)
	}
}

// TestLedgerOfTwoGateways: the same mailbox in two portals, with messages of
// one GUID even, is two mailboxes; who looks at the whole sees both.
func TestLedgerOfTwoGateways(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), t.Context()
	for _, gateway := range []string{"mx1", "mx2"} {
		for _, guid := range []string{"same", "held-" + gateway} {
			if before, err := s.Begin(ctx, LedgerKey{gateway, ana, guid}, "example.test", 1); err != nil || before.State != "" {
				t.Fatalf("begin at %s: %+v, %v", gateway, before, err)
			}
		}
		ok(t, s.Hold(ctx, LedgerKey{gateway, ana, "held-" + gateway}, "550 5.7.1 no"))
	}
	ok(t, s.MarkSent(ctx, LedgerKey{"mx1", ana, "same"}, "250"))
	ok(t, s.MarkDone(ctx, "mx2", ana, "same")) // was not sent there
	counts(t, s, LedgerCounts{Sending: 1, Sent: 1, Held: 2})
	ok(t, s.Settle(ctx, "mx2", ana, []string{"held-mx2"}))
	counts(t, s, LedgerCounts{Sent: 1, Held: 2}) // mx1's are not removed by their owner
	for gateway, want := range map[string]int{"mx1": 2, "mx2": 1, "mx3": 0} {
		rows, err := s.LedgerOf(ctx, gateway, ana)
		if err != nil || len(rows) != want {
			t.Errorf("ledger of %s: %+v, %v", gateway, rows, err)
		}
		boxes, err1 := s.OpenMailboxes(ctx, gateway, "example.test")
		domains, err2 := s.OpenDomains(ctx, gateway)
		if n := min(want, 1); err1 != nil || err2 != nil || len(boxes) != n || len(domains) != n {
			t.Errorf("open at %s: %v, %v, %v, %v", gateway, boxes, err1, domains, err2)
		}
	}
	d, err := s.DrainState(ctx, "example.test", 10)
	if err != nil || d.Running || len(d.Messages) != 2 || d.Messages[0].Gateway != "mx1" || d.Messages[1].Gateway != "mx2" {
		t.Errorf("drain state %+v, %v", d, err)
	}
	if n, err := s.Retry(ctx, "example.test"); err != nil || n != 2 {
		t.Errorf("retry: %d, %v", n, err)
	}
	var jobs string // each in the queue of its gateway
	ok(t, s.Pool.QueryRow(ctx, `SELECT string_agg(queue, ' ' ORDER BY id) FROM river_job WHERE kind = 'drain'`).Scan(&jobs))
	if want := job.GatewayQueue("mx1") + " " + job.GatewayQueue("mx2"); jobs != want {
		t.Errorf("jobs in %q, want %q", jobs, want)
	}
}

// TestAdoptLedger: rows that name no gateway are the first one's that asks.
func TestAdoptLedger(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), t.Context()
	if _, err := s.Begin(ctx, LedgerKey{"", ana, "old"}, "example.test", 1); err != nil {
		t.Fatal(err)
	}
	for _, gateway := range []string{"mx1", "mx2"} {
		ok(t, s.AdoptLedger(ctx, gateway))
		if rows, err := s.LedgerOf(ctx, "mx1", ana); err != nil || rows["old"].State != Sending {
			t.Errorf("after %s: %+v, %v", gateway, rows, err)
		}
	}
}

func TestPruneLedger(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), t.Context()
	begin(t, s, "open", "")
	begin(t, s, "done", "")
	ok(t, s.MarkSent(ctx, LedgerKey{here, ana, "done"}, "250"))
	ok(t, s.MarkDone(ctx, here, ana, "done"))
	if n, err := s.PruneLedger(ctx, time.Now().Add(-time.Hour)); err != nil || n != 0 {
		t.Errorf("pruned %d, %v; all is young", n, err)
	}
	if n, err := s.PruneLedger(ctx, time.Now().Add(time.Hour)); err != nil || n != 1 {
		t.Errorf("pruned %d, %v; want the done one", n, err)
	}
	counts(t, s, LedgerCounts{Sending: 1})
}

func TestLockDrain(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), t.Context()
	release, got, err := s.LockDrain(ctx, here, "example.test")
	if err != nil || !got {
		t.Fatal(got, err)
	}
	if _, again, err := s.LockDrain(ctx, here, "example.test"); err != nil || again {
		t.Errorf("locked twice: %v, %v", again, err)
	}
	if r, other, err := s.LockDrain(ctx, here, "other.test"); err != nil || !other {
		t.Errorf("another domain: %v, %v", other, err)
	} else {
		r()
	}
	if r, other, err := s.LockDrain(ctx, "mx2", "example.test"); err != nil || !other {
		t.Errorf("another gateway: %v, %v", other, err)
	} else {
		r()
	}
	release()
	if r, again, err := s.LockDrain(ctx, here, "example.test"); err != nil || !again {
		t.Errorf("after release: %v, %v", again, err)
	} else {
		r()
	}
}

func TestMode(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), t.Context()
	domain := addDomain(t, s)
	before, err := s.Mode(ctx, domain)
	if err != nil || before.Mode != directory.Normal || before.Version == 0 {
		t.Errorf("got %+v, %v", before, err)
	}
	change, err := s.SwitchMode(ctx, Switch{Domain: domain, To: directory.Emergency, Actor: "op", Manual: true})
	ok(t, err)
	after, err := s.Mode(ctx, domain)
	if err != nil || after.Mode != directory.Emergency || after.Version <= before.Version || after.Version != change.Version {
		t.Errorf("got %+v, %v", after, err)
	}
	if _, err := s.Mode(ctx, "unknown.test"); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown domain: %v", err)
	}
}
