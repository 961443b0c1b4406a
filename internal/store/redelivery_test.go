package store

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
)

const bruno = "bruno@example.test"

// redeliverable fills the index with one message of each direction, of the
// last hour, and returns their ids: inbound to ana and bruno, outbound of ana,
// internal of ana's alias to bruno.
func redeliverable(t *testing.T, s *Store) (in, out, internal uuid.UUID) {
	t.Helper()
	addDomain(t, s)
	for _, sql := range []string{`INSERT INTO mailbox (domain_id, address) SELECT id, unnest(ARRAY['ana@example.test', 'bruno@example.test']) FROM domain`,
		`INSERT INTO alias (domain_id, address, mailbox_id) SELECT domain_id, 'boss@example.test', id FROM mailbox WHERE address = 'ana@example.test'`} {
		if _, err := s.Pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	m := sample(3)
	for i := range m {
		m[i].Received = time.Now().UTC().Add(-time.Hour).Add(time.Duration(i) * time.Second).Truncate(time.Microsecond)
	}
	m[0].Mailboxes, m[0].Recipients = []string{ana, bruno}, []string{ana, bruno}
	m[1].Mailboxes, m[1].Recipients, m[1].Direction, m[1].Sender = []string{ana}, []string{"x@elsewhere.test"}, "outbound", ana
	m[2].Mailboxes, m[2].Recipients, m[2].Direction, m[2].Sender = []string{ana, bruno}, []string{"Bruno+tag@example.test"}, "internal", "Boss@example.test"
	if err := s.IndexBatch(t.Context(), IndexBatch{Segment: "s1", To: 30, Messages: m}); err != nil {
		t.Fatal(err)
	}
	return m[0].ID, m[1].ID, m[2].ID
}

// itemsOf lists what a redelivery delivers to whom.
func itemsOf(t *testing.T, s *Store, id int64) (out []string) {
	t.Helper()
	items, err := s.DueItems(t.Context(), id, "", 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range items {
		out = append(out, i.Message.String()+" "+i.Mailbox)
	}
	slices.Sort(out)
	return out
}

func TestRedeliveryTargets(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	in, out, internal := redeliverable(t, s)
	for _, c := range []struct {
		name string
		n    NewRedelivery
		want []string
	}{
		{"inbound goes to all who got it", NewRedelivery{Access: Access{All: true}, Messages: []uuid.UUID{in}}, []string{in.String() + " " + ana, in.String() + " " + bruno}},
		{"outbound goes to its sender", NewRedelivery{Access: Access{All: true}, Messages: []uuid.UUID{out}}, []string{out.String() + " " + ana}},
		{"internal goes to its recipients", NewRedelivery{Access: Access{All: true}, Messages: []uuid.UUID{internal}}, []string{internal.String() + " " + bruno}},
		{"internal, for the sender alone", NewRedelivery{Access: Access{All: true}, Messages: []uuid.UUID{internal}, Mailbox: ana}, []string{internal.String() + " " + ana}},
		{"the same message twice", NewRedelivery{Access: Access{All: true}, Messages: []uuid.UUID{out, out}}, []string{out.String() + " " + ana}},
		{"an owner gets only their own", NewRedelivery{Access: Access{Mailbox: ana}, Messages: []uuid.UUID{in}}, []string{in.String() + " " + ana}},
		{"a mailbox of others is not reached", NewRedelivery{Access: Access{Mailbox: ana}, Messages: []uuid.UUID{in}, Mailbox: bruno}, nil},
		{"another domain's admin", NewRedelivery{Access: Access{Domains: []string{"other.test"}}, Messages: []uuid.UUID{in}}, nil},
		{"nobody", NewRedelivery{Messages: []uuid.UUID{in}}, nil},
	} {
		c.n.Actor = "op"
		plan, err := s.PlanRedelivery(t.Context(), c.n, 10)
		if err != nil {
			t.Fatal(c.name, err)
		}
		planned := 0
		for _, x := range plan.Targets {
			planned += x.Messages
		}
		if planned != len(c.want) {
			t.Errorf("%s: the plan says %+v", c.name, plan.Targets)
		}
		r, err := s.Redeliver(t.Context(), c.n)
		if c.want == nil {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("%s: %+v, %v", c.name, r, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(c.name, err)
		}
		if got := itemsOf(t, s, r.ID); !slices.Equal(got, c.want) || r.Total != int64(len(c.want)) || r.State != RedeliverySending {
			t.Errorf("%s: %v, %+v", c.name, got, r)
		}
	}
	var jobs int
	ok(t, s.Pool.QueryRow(t.Context(), `SELECT count(*) FROM river_job WHERE kind = 'redeliver'`).Scan(&jobs))
	if jobs != 6 {
		t.Errorf("%d jobs, want 6", jobs)
	}
}

func TestRedeliveryByQuery(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	redeliverable(t, s)
	n := NewRedelivery{Actor: "adm", Access: Access{Domains: []string{"example.test"}}, Query: "subject:numero", Record: true}
	if plan, err := s.PlanRedelivery(t.Context(), n, 2); err != nil || plan.Messages != 2 || !plan.More || len(plan.Targets) != 1 || plan.Targets[0].Mode != "normal" {
		t.Errorf("plan %+v, %v", plan, err)
	}
	r, err := s.Redeliver(t.Context(), n)
	if err != nil || r.State != RedeliveryCollecting {
		t.Fatalf("%+v, %v", r, err)
	}
	for range 2 { // as after a crash
		ok(t, s.CollectRedelivery(t.Context(), r))
	}
	if r, err = s.Redelivery(t.Context(), r.ID); err != nil || r.Total != 4 || r.State != RedeliverySending || r.Left() != 4 {
		t.Errorf("%+v, %v", r, err)
	}
	lines, err := s.Audit(t.Context(), "example.test", 0, 10)
	if err != nil || len(lines) != 4 || lines[0].Actor != "adm" || lines[0].Action != ActionRedeliver {
		t.Errorf("audit %+v, %v", lines, err)
	}
	for _, text := range []string{`subject:"`, "&"} { // the latter is not everything
		if _, err := s.Redeliver(t.Context(), NewRedelivery{Actor: "op", Access: Access{All: true}, Query: text}); err == nil {
			t.Errorf("%s is taken", text)
		}
	}
}

func TestRedeliveryItems(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), t.Context()
	in, _, _ := redeliverable(t, s)
	r, err := s.Redeliver(ctx, NewRedelivery{Actor: "op", Access: Access{All: true}, Messages: []uuid.UUID{in}})
	ok(t, err)
	items, err := s.DueItems(ctx, r.ID, "", 10)
	if err != nil || len(items) != 2 {
		t.Fatal(items, err)
	}
	step := func(want bool, i RedeliveryItem) {
		t.Helper()
		if got, err := s.BeginItem(ctx, i); err != nil || got != want {
			t.Errorf("begin: %v, %v", got, err)
		}
	}
	step(true, items[0])
	ok(t, s.ItemRetry(ctx, items[0], "451 later", time.Now().Add(time.Hour)))
	step(true, items[1])
	step(true, items[1]) // after a crash
	ok(t, s.ItemSent(ctx, items[1], "250 ok"))
	ok(t, s.ItemSent(ctx, items[1], "250 ok")) // counts once
	step(false, items[1])
	if due, err := s.DueItems(ctx, r.ID, "", 10); err != nil || len(due) != 0 {
		t.Errorf("due %v, %v", due, err)
	}
	if at, waits, err := s.NextItem(ctx, r.ID); err != nil || !waits || time.Until(at) < 50*time.Minute {
		t.Errorf("next %v, %v, %v", at, waits, err)
	}
	if done, err := s.FinishRedelivery(ctx, r.ID); err != nil || done {
		t.Errorf("finished too early: %v, %v", done, err)
	}
	if list, err := s.RetriedItems(ctx, r.ID, 10); err != nil || len(list) != 1 || list[0].Reply != "451 later" {
		t.Errorf("retried %+v, %v", list, err)
	}
	step(true, items[0])
	ok(t, s.ItemFailed(ctx, items[0], "550 no"))
	if done, err := s.FinishRedelivery(ctx, r.ID); err != nil || !done {
		t.Errorf("not finished: %v, %v", done, err)
	}
	list, err := s.Redeliveries(ctx, "op", 10)
	if err != nil || len(list) != 1 || list[0].Done != 1 || list[0].Failed != 1 || list[0].State != RedeliveryDone || list[0].FinishedAt == nil {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestAuditOfLooks(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), t.Context()
	in, _, _ := redeliverable(t, s)
	adm := Access{Domains: []string{"example.test"}}
	m, err := s.Message(ctx, adm, in)
	ok(t, err)
	ok(t, s.RecordLook(ctx, "adm", ActionView, adm, m, ""))
	ok(t, s.RecordLook(ctx, "adm", ActionView, adm, m, "")) // its frame
	ok(t, s.RecordLook(ctx, "adm", ActionDownload, adm, m, "a.pdf"))
	lines, err := s.Audit(ctx, "example.test", 0, 10)
	if err != nil || len(lines) != 4 { // of ana and of bruno
		t.Fatalf("%+v, %v", lines, err)
	}
	if older, err := s.Audit(ctx, "example.test", lines[1].ID, 10); err != nil || len(older) != 2 || older[0].Action != ActionView {
		t.Errorf("%+v, %v", older, err)
	}
	if box, err := s.mailboxOf(ctx, "BOSS+x@example.test"); err != nil || box != ana {
		t.Errorf("%q, %v", box, err)
	}
}
