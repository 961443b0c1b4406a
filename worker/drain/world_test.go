package drain

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"understudy/internal/delivery"
	"understudy/internal/delivery/postfixtest"
	"understudy/internal/directory"
	"understudy/internal/logtest"
	"understudy/internal/pgtest"
	"understudy/internal/portal"
	"understudy/internal/portal/portaltest"
	"understudy/internal/store"
	"understudy/internal/store/storetest"
)

const (
	domain = "example.test"
	ana    = "ana@example.test"
	bruno  = "bruno@example.test"
	carla  = "carla@example.test"
)

var cluster *pgtest.Cluster

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		child()
		return
	}
	pgtest.Main(m, &cluster)
}

// world is a portal, a primary and a database, all real.
type world struct {
	t        *testing.T
	portal   *portaltest.Server
	primary  *postfixtest.Server
	store    *store.Store
	url      string // of the database
	dir      *directory.Directory
	worker   *Worker
	registry *prometheus.Registry
	log      *logtest.Buffer
}

// newWorld starts everything with ana, bruno and carla registered.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, portal: portaltest.Start(t, ana, bruno, carla), primary: postfixtest.Start(t, postfixtest.Options{}),
		dir: directory.New(), registry: prometheus.NewRegistry(), log: &logtest.Buffer{}}
	name := storetest.Database(t, cluster)
	w.url = cluster.URL("understudy_app", name)
	w.store = openStore(t, w.url)
	w.exec(`INSERT INTO domain (name, primaries, activation) VALUES ($1, $2, 'automatic')`, domain, []string{w.primary.SMTP})
	for _, m := range []string{ana, bruno, carla} {
		w.exec(`INSERT INTO mailbox (domain_id, address) SELECT id, $1 FROM domain`, m)
	}
	follow(t, w.url, w.dir)
	w.await(w.dir.Loaded)
	log := slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	w.worker = New(Config{Gateway: "mx1", Directory: w.dir, Ledger: w.store, Portal: portal.New(w.portal.Config),
		Delivery: &delivery.Client{Helo: "worker.test"}, Concurrency: 2, Timeout: time.Minute, Log: log, Metrics: w.registry})
	return w
}

// second is another gateway of the same domain and database, with a portal of
// its own.
func (w *world) second() *world {
	w.t.Helper()
	g := *w
	g.portal, g.registry = portaltest.Start(w.t, ana, bruno, carla), prometheus.NewRegistry()
	c := w.worker.Config
	c.Gateway, c.Portal, c.Metrics = "mx2", portal.New(g.portal.Config), g.registry
	g.worker = New(c)
	return &g
}

func openStore(tb testing.TB, url string) *store.Store {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		tb.Fatal(err)
	}
	s, err := store.New(context.Background(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	return s
}

// follow keeps dir like the database until the test ends.
func follow(tb testing.TB, url string, dir *directory.Directory) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		f := directory.Follower{Directory: dir, Config: cfg.ConnConfig, Log: slog.New(slog.DiscardHandler)}
		f.Run(ctx) //nolint:errcheck // only about its file, which it has not
	})
	tb.Cleanup(func() { cancel(); wg.Wait() })
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	if _, err := w.store.Pool.Exec(w.t.Context(), sql, args...); err != nil {
		w.t.Fatal(err)
	}
}

// run makes one pass over all mailboxes and checks its outcome.
func (w *world) run(want Outcome) Summary {
	w.t.Helper()
	if d, ok := w.dir.Domain(domain); ok {
		w.worker.lookAtAll(map[*directory.Domain]look{d: {at: time.Now()}})
	}
	s, err := w.worker.Run(w.t.Context(), domain)
	if err != nil || s.Outcome != want {
		w.t.Fatalf("run: %+v, %v; want %s\n%s", s, err, want, w.log)
	}
	return s
}

// setMode switches the domain and waits until the directory knows it.
func (w *world) setMode(to directory.Mode) {
	w.t.Helper()
	if _, err := w.store.SwitchMode(w.t.Context(), store.Switch{Domain: domain, To: to, Actor: "op", Manual: true, Reason: "test"}); err != nil {
		w.t.Error(err) // not Fatal: also called by other goroutines
		return
	}
	deadline := time.After(3 * time.Minute)
	for {
		changed := w.dir.Changed()
		if d, ok := w.dir.Domain(domain); ok && d.Mode == to {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			w.t.Error("the directory does not follow")
			return
		}
	}
}

// left is how many messages lie in an INBOX.
func (w *world) left(mailbox string) int {
	w.t.Helper()
	l, err := portal.New(w.portal.Config).List(w.t.Context(), mailbox)
	if err != nil {
		w.t.Fatal(err)
	}
	return len(l.Entries)
}

func (w *world) counts(want store.LedgerCounts) {
	w.t.Helper()
	got, err := w.store.Counts(w.t.Context(), domain)
	if err != nil || got != want {
		w.t.Errorf("ledger %+v, %v; want %+v", got, err, want)
	}
}

// metric reads a counter, summed over its labels or with one label value.
func (w *world) metric(name, label string) float64 {
	w.t.Helper()
	families, err := w.registry.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	var sum float64
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (label == "" || m.GetLabel()[0].GetValue() == label) {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// message makes a message that can be told from others.
func message(n int) string {
	return fmt.Sprintf("X-Understudy-Id: %d\r\nFrom: s@internet.test\r\nSubject:  number  %d \r\n\r\nbody %d caf\xe9\r\n.\r\n..\r\n\r\n", n, n, n)
}

// arrived tells whether a stored message is what was sent, byte for byte
// below the trace fields that the primary puts on top (a maildir has LF).
func arrived(stored, sent string) bool {
	return strings.HasSuffix(stored, "\n"+strings.ReplaceAll(sent, "\r\n", "\n"))
}

// after is a Deliverer that does something after its nth message.
type after struct {
	Deliverer
	mu sync.Mutex
	n  int
	do func()
}

func (a *after) Deliver(ctx context.Context, hosts []string, m delivery.Message) []delivery.Result {
	out := a.Deliverer.Deliver(ctx, hosts, m)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.n--; a.n == 0 {
		a.do()
	}
	return out
}
