package expire

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"understudy/internal/archive"
	"understudy/internal/pgtest"
	"understudy/internal/store"
	"understudy/internal/store/storetest"
)

var cluster *pgtest.Cluster

func TestMain(m *testing.M) { pgtest.Main(m, &cluster) }

func newExpiry(s *store.Store, dir, host string) *Expiry {
	return New(Config{Dir: dir, Host: host, Store: s, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
}

// segment archives one message of a mailbox in a segment of its own, indexes it
// as received at a time, and returns the segment's name.
func segment(t *testing.T, dir string, s *store.Store, mailbox string, received time.Time) string {
	t.Helper()
	w, err := archive.OpenWriter(dir, archive.Options{})
	if err != nil {
		t.Fatal(err)
	}
	spool := archive.NewSpool(t.TempDir(), 1<<20)
	defer spool.Close()
	if _, err := io.WriteString(spool, "Subject: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	id := uuid.Must(uuid.NewV7())
	ref, err := w.Append(t.Context(), &archive.Envelope{ID: id, Received: received, Direction: archive.Inbound, Mailboxes: []string{mailbox}}, spool)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	m := store.IndexedMessage{ID: id, Received: received, Direction: "inbound", Mailboxes: []string{mailbox}, Segment: ref.Segment, Length: ref.Length}
	if err := s.IndexBatch(t.Context(), store.IndexBatch{Segment: ref.Segment, To: ref.Length, Sealed: true, Host: "gw1", Messages: []store.IndexedMessage{m}}); err != nil {
		t.Fatal(err)
	}
	return ref.Segment
}

func TestExpire(t *testing.T) {
	t.Parallel()
	s, dir, now := storetest.Open(t, cluster), t.TempDir(), time.Now().UTC().Truncate(time.Microsecond)
	for name, days := range map[string]int{"short.test": 10, "long.test": 100} {
		if _, err := s.Pool.Exec(t.Context(), `INSERT INTO domain (name, primaries, retention_days) VALUES ($1, '{127.0.0.1:25}', $2)`, name, days); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.AddHold(t.Context(), "held@short.test", "test", "case"); err != nil {
		t.Fatal(err)
	}
	old := now.AddDate(0, 0, -20)
	stays := map[string]bool{
		segment(t, dir, s, "ana@short.test", old):                    false,
		segment(t, dir, s, "ana@long.test", old.AddDate(0, 0, 1)):    true,
		segment(t, dir, s, "held@short.test", old.AddDate(0, 0, 2)):  true,
		segment(t, dir, s, "ana@short.test", now):                    true,
		segment(t, dir, s, "ana@unknown.test", old.AddDate(0, 0, 3)): true,
	}
	// One that was written to after it was indexed is not touched.
	changed := segment(t, dir, s, "ana@short.test", old)
	stays[changed] = true
	list, err := archive.Segments(dir)
	if err != nil || len(list) != len(stays) {
		t.Fatal(list, err)
	}
	for _, x := range list {
		if x.Name == changed {
			if err := os.Truncate(x.Path, x.Size+1); err != nil {
				t.Fatal(err)
			}
		}
	}
	w := newExpiry(s, dir, "gw1")
	for range 2 { // again: nothing more
		if err := w.once(t.Context(), now); err != nil {
			t.Fatal(err)
		}
		left, err := archive.Segments(dir)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]bool{}
		for _, x := range left {
			got[x.Name] = true
		}
		for name, want := range stays {
			if got[name] != want {
				t.Errorf("segment %s is there: %v, want %v", name, got[name], want)
			}
		}
	}
	var days string
	err = s.Pool.QueryRow(t.Context(), `SELECT string_agg(right(relname, 8), ' ' ORDER BY relname) FROM pg_class WHERE relname ~ '^message_\d{8}$'`).Scan(&days)
	want := fmt.Sprintf("%s %s %s %s", old.AddDate(0, 0, 1).Format("20060102"), old.AddDate(0, 0, 2).Format("20060102"), old.AddDate(0, 0, 3).Format("20060102"), now.Format("20060102"))
	if err != nil || days != want {
		t.Errorf("days %s, %v; want %s", days, err, want)
	}
	if n := testutil.ToFloat64(w.segments); n != 1 {
		t.Errorf("%v segments counted", n)
	}
	if checkpoints, err := s.SegmentOffsets(t.Context()); err != nil || len(checkpoints) != len(stays) { // the removed one is remembered for the bucket

		t.Errorf("checkpoints %v, %v", checkpoints, err)
	}
}
