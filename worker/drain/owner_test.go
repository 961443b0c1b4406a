package drain

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/riverqueue/river"

	"understudy/internal/directory"
	"understudy/internal/store"
)

// TestFlaggedMeanwhile: what its owner flags for deletion while the message
// before it is sent is not sent any more, and stays.
func TestFlaggedMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for n := range 3 {
		w.portal.Deliver("s@x.test", ana, message(n))
	}
	user := w.portal.Login(ana)
	w.worker.Delivery = &after{Deliverer: w.worker.Delivery, n: 1, do: func() { flagDeleted(t, user, 2) }}
	if s := w.run(Complete); s.Returned != 2 || s.Left != 0 {
		t.Errorf("summary %+v", s)
	}
	if diff := cmp.Diff([]int{0, 2}, w.numbers(ana, 2)); diff != "" || w.left(ana) != 1 {
		t.Errorf("%d left; -want +got\n%s", w.left(ana), diff)
	}
}

// TestMailboxRemoved: the ledger forgets a mailbox that is registered no more,
// and its domain is drained for it no longer. Who registers it again has its
// mail returned.
func TestMailboxRemoved(t *testing.T) {
	t.Parallel()
	s := newSweeping(t)
	s.primary.Refuse(ana, "550 5.7.1 no")
	s.portal.Deliver("s@x.test", ana, message(0))
	s.after(0)
	s.counts(store.LedgerCounts{Held: 1})
	s.quiet()
	if n := s.after(time.Minute); n != 1 {
		t.Errorf("%d mailboxes were asked about, want the one with a held message", n)
	}
	s.exec(`DELETE FROM mailbox WHERE address = $1`, ana)
	s.await(func() bool { return len(s.dir.Mailboxes(1)) == 2 })
	s.after(time.Minute)
	s.counts(store.LedgerCounts{})
	s.sweep.sweep(t.Context(), true)
	if n := s.count(`SELECT count(*) FROM river_job WHERE kind = 'drain'`); n != 0 {
		t.Errorf("%d drains for a mailbox that is gone", n)
	}
	s.primary.Refuse(ana, "")
	s.exec(`INSERT INTO mailbox (domain_id, address) SELECT id, $1 FROM domain`, ana)
	s.await(func() bool { return len(s.dir.Mailboxes(1)) == 3 })
	s.after(everyone)
	s.exactlyOnce(1, map[string]int{ana: 1})
}

// TestRepliesAlwaysLost: a primary that takes a message and never says so gets
// it a second time at once, and then with growing pauses, not every minute
// without end. Other mail is returned meanwhile.
func TestRepliesAlwaysLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.portal.Deliver("s@x.test", ana, message(0))
	lose := func() { w.exec(`UPDATE domain SET primaries = $1`, []string{lossy(t, w.primary.SMTP)}) }
	for n := range 2 {
		lose()
		if s := w.run(Trouble); s.Left != 1 {
			t.Errorf("summary %+v", s)
		}
		w.primary.Await(ana, n+1)
	}
	w.exec(`UPDATE domain SET primaries = $1`, []string{w.primary.SMTP})
	w.exec(`UPDATE drain_ledger SET first_at = now() - interval '10 min', updated_at = now() - interval '1 min'`)
	w.portal.Deliver("s@x.test", ana, message(1))
	if s := w.run(Trouble); s.Returned != 1 || s.Left != 1 {
		t.Errorf("after nine minutes and one of rest: %+v", s)
	}
	w.exec(`UPDATE drain_ledger SET updated_at = now() - interval '6 min' WHERE state = 'sending'`)
	if s := w.run(Complete); s.Returned != 1 {
		t.Errorf("after four minutes and six of rest: %+v", s)
	}
	if diff := cmp.Diff([]int{0, 0, 0, 1}, w.numbers(ana, 4)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if n := w.metric("understudy_worker_drain_uncertain_total", ""); n != 2 {
		t.Errorf("%v uncertain, want 2", n)
	}
	w.counts(store.LedgerCounts{Done: 2})
	for _, tt := range []struct {
		attempts    int
		tried, rest time.Duration
		want        bool
	}{
		{1, time.Hour, 0, false},
		{2, time.Minute, 59 * time.Second, true},
		{2, time.Minute, time.Minute, false},
		{9, 24 * time.Hour, 59 * time.Minute, true},
		{9, 24 * time.Hour, time.Hour, false},
	} {
		now := time.Now()
		e := store.LedgerEntry{State: store.Sending, Reply: lostReply, Attempts: tt.attempts, UpdatedAt: now.Add(-tt.rest), FirstAt: now.Add(-tt.rest - tt.tried)}
		if got := rests(e, now); got != tt.want {
			t.Errorf("%+v: rests = %v", tt, got)
		}
		if e.Reply = ""; rests(e, now) {
			t.Errorf("%+v: rests after a crash", tt)
		}
	}
}

// nobody is a queue in which nothing is inserted, and a ledger of nothing.
type nobody struct{}

func (nobody) Enqueue(context.Context, river.JobArgs, *river.InsertOpts) error { return nil }
func (nobody) OpenDomains(context.Context, string) ([]string, error)           { return nil, nil }
func (nobody) AdoptLedger(context.Context, string) error                       { return nil }
func (nobody) PruneLedger(context.Context, time.Time) (int64, error)           { return 0, nil }

// TestSweepOfManyDomains: the first sweep looks at all domains, and must not
// walk all mailboxes for each of them.
func TestSweepOfManyDomains(t *testing.T) {
	t.Parallel()
	const domains, each = 4_000, 20
	all := &directory.Change{Full: true, Version: 1}
	for d := range int64(domains) {
		name := fmt.Sprintf("d%d.test", d)
		all.Domains = append(all.Domains, &directory.Domain{ID: d, Name: name, Mode: directory.Normal})
		for m := range int64(each) {
			all.Mailboxes = append(all.Mailboxes, &directory.Mailbox{ID: d*each + m, DomainID: d, Address: fmt.Sprintf("m%d@%s", m, name)})
		}
	}
	dir := directory.New()
	dir.Apply(all)
	w := New(Config{Gateway: "mx1", Directory: dir, Log: slog.New(slog.DiscardHandler)})
	begin := time.Now()
	NewSweep(w, nobody{}, nil, time.Minute).sweep(t.Context(), true)
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
	if n := len(w.looks.due("d77.test", time.Now())); n != each {
		t.Errorf("%d mailboxes of a domain are due, want %d", n, each)
	}
}
