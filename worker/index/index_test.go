package index

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"understudy/internal/archive"
	"understudy/internal/pgtest"
	"understudy/internal/query"
	"understudy/internal/store"
	"understudy/internal/store/storetest"
	"understudy/internal/wait"
)

var cluster *pgtest.Cluster

func TestMain(m *testing.M) { pgtest.Main(m, &cluster) }

// rig is an archive, a database and an indexer between them.
type rig struct {
	t      testing.TB
	dir    string
	writer *archive.Writer
	store  *store.Store
	index  *Indexer
	refs   []archive.Ref
}

func newRig(t *testing.T, c *pgtest.Cluster, opts archive.Options) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), store: storetest.Open(t, c)}
	var err error
	if r.writer, err = archive.OpenWriter(r.dir, opts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.writer.Close() })
	r.index = r.indexer(r.store)
	return r
}

func (r *rig) indexer(s Store) *Indexer {
	return &Indexer{Dir: r.dir, Store: s, Interval: 10 * time.Millisecond, Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics(prometheus.NewRegistry())}
}

// add archives messages.
func (r *rig) add(messages ...string) {
	r.t.Helper()
	for _, m := range messages {
		s := archive.NewSpool(r.t.TempDir(), 1<<30)
		if _, err := io.WriteString(s, m); err != nil {
			r.t.Fatal(err)
		}
		ref, err := r.writer.Append(r.t.Context(), &archive.Envelope{ID: uuid.Must(uuid.NewV7()), Received: time.Now().UTC().Truncate(time.Microsecond),
			Direction: archive.Inbound, Sender: "out\xe9@internet.test", Recipients: []string{"ana@example.test", "bcc@example.test"},
			Mailboxes: []string{"ana@example.test", "bcc@example.test"}, Client: "192.0.2.1", QueueID: "4XyZ"}, s)
		s.Close()
		if err != nil {
			r.t.Fatal(err)
		}
		r.refs = append(r.refs, ref)
	}
}

// run starts the indexer and returns a function that ends it.
func (r *rig) run(x *Indexer) (stop func()) {
	ctx, cancel := context.WithCancel(r.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { x.Run(ctx) })
	return func() { cancel(); wg.Wait() }
}

func (r *rig) count(sql string) (n int) {
	if err := r.store.Pool.QueryRow(r.t.Context(), sql).Scan(&n); err != nil {
		return -1
	}
	return n
}

func (r *rig) waitFor(n int) {
	r.t.Helper()
	wait.True(r.t, fmt.Sprintf("%d messages in the index", n), func() bool { return r.count("SELECT count(*) FROM message") == n })
}

// complete checks that everything archived is in the index once.
func (r *rig) complete() {
	r.t.Helper()
	n := len(r.refs)
	r.waitFor(n)
	if got := r.count("SELECT sum(records) FROM segment"); got != n {
		r.t.Errorf("checkpoints count %d records, want %d", got, n)
	}
	if got := r.count("SELECT count(*) FROM message_mailbox"); got != 2*n {
		r.t.Errorf("%d rows of mailboxes, want %d", got, 2*n)
	}
	if got := r.count("SELECT count(DISTINCT (segment, seg_offset)) FROM message"); got != n {
		r.t.Errorf("%d different records, want %d", got, n)
	}
}

func numbered(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("From: Ana <ana@example.test>\r\nSubject: number %d\r\n\r\nword%d\r\n", i, i))
	}
	return
}

func TestIndexFollowsTheLog(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster, archive.Options{MaxBytes: 20_000}) // several segments
	r.add(numbered(150)...)
	stop := r.run(r.index)
	r.complete()
	r.add(numbered(150)...)
	r.complete()
	if err := r.writer.Close(); err != nil {
		t.Fatal(err)
	}
	wait.True(t, "all segments sealed", func() bool { return r.count("SELECT count(*) FROM segment WHERE NOT sealed") == 0 })
	stop()
	if got := testutil.ToFloat64(r.index.Metrics.messages); got != 300 {
		t.Errorf("indexed %v messages, want 300", got)
	}

	row, _, err := r.store.SearchMessages(t.Context(), store.MessageFilter{Access: store.Access{All: true}, Query: &query.Query{Root: query.Words{List: []string{"word149"}}}, Limit: 1})
	if err != nil || len(row) != 1 {
		t.Fatalf("%+v, %v", row, err)
	}
	rec, err := archive.ReadRecord(r.dir, archive.Ref{Segment: row[0].Segment, Offset: row[0].Offset, Length: row[0].Length})
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Close()
	if body, err := io.ReadAll(rec.Body); err != nil || !strings.Contains(string(body), "word149") || int64(len(body)) != row[0].Size {
		t.Errorf("the row points to %q, %v", body, err)
	}
	if row[0].Subject != "number 149" || row[0].FromHeader != "Ana <ana@example.test>" || row[0].Sender != "out\uFFFD@internet.test" {
		t.Errorf("row %+v", row[0])
	}
}

// TestDroppedIndexIsBuiltAnew: the log is the truth.
func TestDroppedIndexIsBuiltAnew(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster, archive.Options{MaxBytes: 5_000})
	r.add(numbered(40)...)
	stop := r.run(r.index)
	r.complete()
	stop()
	if _, err := r.store.Pool.Exec(t.Context(), "DELETE FROM message; DELETE FROM message_mailbox; DELETE FROM segment"); err != nil {
		t.Fatal(err)
	}
	defer r.run(r.index)()
	r.complete()
}

// killedStore ends, like kill -9, between the transaction and the worker's
// knowledge of it, or before it.
type killedStore struct {
	*store.Store
	calls  atomic.Int32
	before bool
	kill   context.CancelFunc
}

func (k *killedStore) IndexBatch(ctx context.Context, b store.IndexBatch) error {
	if k.calls.Add(1) == 2 {
		if !k.before {
			if err := k.Store.IndexBatch(ctx, b); err != nil {
				return err
			}
		}
		k.kill()
		return context.Canceled
	}
	return k.Store.IndexBatch(ctx, b)
}

func TestKilledBetweenBatches(t *testing.T) {
	t.Parallel()
	for _, before := range []bool{true, false} {
		t.Run(fmt.Sprintf("before commit %v", before), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, cluster, archive.Options{})
			const batch = 50
			r.add(numbered(3*batch + 7)...)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			k := &killedStore{Store: r.store, before: before, kill: cancel}
			x := r.indexer(k)
			x.batch = batch
			x.Run(ctx)
			if n := r.count("SELECT count(*) FROM message"); n != batch && n != 2*batch {
				t.Fatalf("%d messages after the kill", n)
			}
			defer r.run(r.index)()
			r.complete()
		})
	}
}

// TestTwoIndexers at once do no harm.
func TestTwoIndexers(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster, archive.Options{MaxBytes: 50_000})
	defer r.run(r.indexer(r.store))()
	defer r.run(r.index)()
	for range 5 {
		r.add(numbered(200)...)
	}
	r.complete()
}

func TestPostgresDownMeanwhile(t *testing.T) {
	t.Parallel()
	own, err := pgtest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { own.Remove() })
	r := newRig(t, own, archive.Options{MaxBytes: 30_000})
	defer r.run(r.index)()
	r.add(numbered(100)...)
	if err := own.StopServer(); err != nil { // most likely within a batch
		t.Fatal(err)
	}
	r.add(numbered(300)...)
	wait.True(t, "an error counted", func() bool { return testutil.ToFloat64(r.index.Metrics.errors) > 0 })
	if err := own.StartServer(); err != nil {
		t.Fatal(err)
	}
	r.complete()
	wait.True(t, "no lag", func() bool { return testutil.ToFloat64(r.index.Metrics.lagBytes) == 0 })
}

// TestDamage: a record whose bytes are broken is counted and skipped.
func TestDamage(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster, archive.Options{})
	r.add(numbered(20)...)
	if err := r.writer.Close(); err != nil {
		t.Fatal(err)
	}
	ref := r.refs[7]
	segments, err := archive.Segments(r.dir)
	if err != nil || len(segments) != 1 {
		t.Fatal(segments, err)
	}
	f, err := os.OpenFile(segments[0].Path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("DAMAGE"), ref.Offset+ref.Length/2); err != nil {
		t.Fatal(err)
	}
	f.Close()
	defer r.run(r.index)()
	r.waitFor(19)
	wait.True(t, "the segment sealed", func() bool { return r.count("SELECT count(*) FROM segment WHERE sealed") == 1 })
	if got := r.count("SELECT damaged FROM segment"); got != int(ref.Length) {
		t.Errorf("%d bytes damaged, want %d", got, ref.Length)
	}
}

// refusing stands for data that PostgreSQL does not take.
type refusing struct {
	*store.Store
	word string
}

func (s refusing) IndexBatch(ctx context.Context, b store.IndexBatch) error {
	for _, m := range b.Messages {
		if strings.Contains(m.Text, s.word) || strings.Contains(s.word, "all") {
			return fmt.Errorf("%w: test", store.ErrData)
		}
	}
	return s.Store.IndexBatch(ctx, b)
}

func TestRefusedDataIsIndexedByItsEnvelope(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster, archive.Options{})
	r.add(numbered(30)...)
	x := r.indexer(refusing{r.store, "word17"})
	defer r.run(x)()
	r.complete()
	if got := r.count("SELECT count(*) FROM message WHERE subject = ''"); got != 1 {
		t.Errorf("%d messages by their envelope, want 1", got)
	}
	if got := testutil.ToFloat64(x.Metrics.failures); got != 1 {
		t.Errorf("%v failures counted, want 1", got)
	}
}

func TestWholeCorpus(t *testing.T) {
	t.Parallel()
	files := corpus(t)
	r := newRig(t, cluster, archive.Options{})
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		r.add(string(data))
	}
	defer r.run(r.index)()
	r.complete()
	if got := testutil.ToFloat64(r.index.Metrics.failures); got > 1+float64(len(files))/50 {
		t.Errorf("%v of %d messages not fully decoded", got, len(files))
	}
	without := r.count("SELECT count(*) FROM message WHERE subject = '' AND from_header = ''")
	if without > 1+len(files)/10 {
		t.Errorf("%d of %d messages without subject and sender", without, len(files))
	}
}

// corpus lists the messages of MAIL_CORPUS, or the few of our own.
func corpus(t *testing.T) []string {
	t.Helper()
	dir := os.Getenv("MAIL_CORPUS")
	if dir == "" {
		dir = "../../../shared/corpus"
	}
	var files []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".eml") {
			files = append(files, path)
		}
		return nil
	})
	if err != nil || len(files) == 0 {
		files, err = filepath.Glob("../../internal/mime/testdata/*.eml")
	}
	if err != nil || len(files) == 0 {
		t.Fatal("no messages", err)
	}
	return files
}

func TestCancelledRunEnds(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster, archive.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r.index.Run(ctx)
	if err := r.index.pass(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("pass on an ended context: %v", err)
	}
}
