package ship

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"understudy/internal/archive"
	"understudy/internal/archive/ship"
	"understudy/internal/archive/shiptest"
	"understudy/internal/pgtest"
	"understudy/internal/store"
	"understudy/internal/store/storetest"
)

var cluster *pgtest.Cluster

// TestMain is also a process that ships until it is killed.
func TestMain(m *testing.M) {
	if os.Getenv("UNDERSTUDY_SHIP_DIR") != "" {
		shipForever()
	}
	pgtest.Main(m, &cluster)
}

// rig is an archive, a database and a bucket.
type rig struct {
	*shiptest.Store
	dir    string
	url    string // of the database, for the worker's role
	store  *store.Store
	writer *archive.Writer
	reader ship.Reader
	refs   []archive.Ref
}

func newRig(t testing.TB, s *shiptest.Store) *rig {
	t.Helper()
	name := storetest.Database(t, cluster)
	r := &rig{Store: s, dir: t.TempDir(), url: cluster.URL("understudy_app", name)}
	r.store = openStore(t.Context(), t, r.url)
	r.reader = ship.Reader{Dir: r.dir, Bucket: s.Open(t)}
	var err error
	if r.writer, err = archive.OpenWriter(r.dir, archive.Options{MaxBytes: 1 << 40}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.writer.Close() })
	return r
}

func openStore(ctx context.Context, t testing.TB, url string) *store.Store {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.New(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// body of the i-th message: incompressible enough to make bytes.
func body(i int) string {
	var b strings.Builder
	for j := range 50 + i%7*200 {
		b.WriteString(uuid.NewSHA1(uuid.NameSpaceOID, fmt.Appendf(nil, "%d %d", i, j)).String())
	}
	return b.String()
}

// add makes sealed segments of n messages each.
func (r *rig) add(t testing.TB, segments, n int) {
	t.Helper()
	for range segments {
		for range n {
			sp := archive.NewSpool(t.TempDir(), 1<<30)
			io.WriteString(sp, body(len(r.refs))) //nolint:errcheck // sticky: Append tells
			ref, err := r.writer.Append(t.Context(), &archive.Envelope{ID: uuid.Must(uuid.NewV7()), Received: time.Now().UTC(),
				Direction: archive.Inbound, Recipients: []string{"ana@example.test"}, Mailboxes: []string{"ana@example.test"}}, sp)
			sp.Close()
			if err != nil {
				t.Fatal(err)
			}
			r.refs = append(r.refs, ref)
		}
		if err := r.writer.Close(); err != nil { // seals it
			t.Fatal(err)
		}
		var err error
		if r.writer, err = archive.OpenWriter(r.dir, archive.Options{MaxBytes: 1 << 40}); err != nil {
			t.Fatal(err)
		}
	}
}

// index makes the index have all segments as a whole.
func (r *rig) index(t testing.TB) {
	t.Helper()
	for _, s := range r.local(t) {
		if _, err := r.store.Pool.Exec(t.Context(), `INSERT INTO segment (name, indexed, sealed) VALUES ($1, $2, true) ON CONFLICT DO NOTHING`, s.Name, s.Size); err != nil {
			t.Fatal(err)
		}
	}
}

// expire lets a segment's time be over, with its file left behind.
func (r *rig) expire(t testing.TB, name string) {
	t.Helper()
	if _, err := r.store.Pool.Exec(t.Context(), `INSERT INTO segment_mailbox (segment, mailbox, domain, last) VALUES ($1, 'ana@example.test', 'example.test', now() - interval '20 years')`, name); err != nil {
		t.Fatal(err)
	}
	if ok, err := r.store.ExpireSegment(t.Context(), name, time.Now(), func() error { return nil }); !ok || err != nil {
		t.Fatal(ok, err)
	}
}

func (r *rig) local(t testing.TB) []archive.Segment {
	t.Helper()
	s, err := archive.Segments(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (r *rig) shipped(t testing.TB) []archive.Segment {
	t.Helper()
	s, err := r.reader.Bucket.Segments(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// counts compares how many segments are local, in the bucket, and verified.
func (r *rig) counts(t testing.TB, local, shipped, verified int) {
	t.Helper()
	known, err := r.store.Shipments(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, k := range known {
		if k.Verified != nil {
			n++
		}
	}
	if l, s := len(r.local(t)), len(r.shipped(t)); l != local || s != shipped || n != verified {
		t.Errorf("%d segments are local, %d in the bucket, %d verified; want %d, %d, %d", l, s, n, local, shipped, verified)
	}
}

// readable reads every message from wherever it is.
func (r *rig) readable(t testing.TB) {
	t.Helper()
	for i, ref := range r.refs {
		rec, err := r.reader.ReadRecord(t.Context(), ref)
		if err != nil {
			t.Errorf("message %d: %v", i, err)
			continue
		}
		got, err := io.ReadAll(rec.Body)
		if err = errors.Join(err, rec.Close()); err != nil || string(got) != body(i) {
			t.Errorf("message %d: %d bytes, %v", i, len(got), err)
		}
	}
}

// shipper makes a shipper that ships at once and frees at once.
func (r *rig) shipper(t testing.TB) *Shipper {
	t.Helper()
	return New(Config{Dir: r.dir, Bucket: r.reader.Bucket, Store: r.store, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Metrics: prometheus.NewRegistry()})
}

func work(t testing.TB, s *Shipper) {
	t.Helper()
	if err := s.once(t.Context()); err != nil {
		t.Errorf("a run: %v", err)
	}
}

// metric compares one of the shipper's numbers.
func metric(t testing.TB, name string, c prometheus.Collector, want float64) {
	t.Helper()
	if got := testutil.ToFloat64(c); got != want {
		t.Errorf("%s is %v, want %v", name, got, want)
	}
}
