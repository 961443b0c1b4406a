package monitor

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"understudy/internal/directory"
	"understudy/internal/evidence"
	"understudy/internal/freeport"
	"understudy/internal/listen/listentest"
	"understudy/internal/pgtest"
	"understudy/internal/store"
	"understudy/internal/store/storetest"
	"understudy/internal/wait"
	"understudy/worker/detect"
	"understudy/worker/probe"
)

var cluster *pgtest.Cluster

func TestMain(m *testing.M) { pgtest.Main(m, &cluster) }

// primary is a mail server that can be stopped and started.
type primary struct {
	t       *testing.T
	address string
	mu      sync.Mutex
	l       net.Listener
	banner  string
	mail    string
}

func newPrimary(t *testing.T) *primary {
	t.Helper()
	l, err := net.Listen("tcp", freeport.For(t)) // nobody takes it while the primary is stopped
	if err != nil {
		t.Fatal(err)
	}
	p := &primary{t: t, address: l.Addr().String(), l: l, banner: "220 mx.test", mail: "250 ok"}
	go p.serve(l)
	t.Cleanup(p.stop)
	return p
}

func (p *primary) serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			c.SetDeadline(time.Now().Add(time.Minute)) //nolint:errcheck
			p.mu.Lock()
			banner, mail := p.banner, p.mail
			p.mu.Unlock()
			fmt.Fprintf(c, "%s\r\n", banner)
			buf := make([]byte, 512)
			for {
				n, err := c.Read(buf)
				if err != nil {
					return
				}
				if n > 4 && string(buf[:4]) == "MAIL" {
					fmt.Fprintf(c, "%s\r\n", mail)
					continue
				}
				fmt.Fprint(c, "250 ok\r\n")
			}
		}()
	}
}

func (p *primary) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.l.Close()
}

func (p *primary) start() {
	p.t.Helper()
	l, err := net.Listen("tcp", p.address)
	if err != nil {
		p.t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.l = l
	go p.serve(l)
}

// rig is a database, a directory that follows it, a monitor and policyd's
// evidence socket.
type rig struct {
	t       *testing.T
	store   *store.Store
	monitor *Monitor
	ring    *evidence.Ring
	stop    func()
}

func newRig(t *testing.T, c *pgtest.Cluster, edit ...func(*Monitor)) *rig {
	t.Helper()
	r := &rig{t: t, ring: evidence.NewRing(), store: storetest.Open(t, c)}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	r.stop = func() { cancel(); wg.Wait() }
	t.Cleanup(r.stop)
	dir := directory.New()
	log := slog.New(slog.DiscardHandler)
	wg.Go(func() {
		(&directory.Follower{Directory: dir, Config: r.store.Pool.Config().ConnConfig.Copy(), Log: log}).Run(ctx)
	}) //nolint:errcheck
	mux := http.NewServeMux()
	mux.Handle("GET /evidence", r.ring)
	r.monitor = &Monitor{Directory: dir, Store: r.store, Prober: &probe.Prober{Helo: "gw.test", Timeout: 15 * time.Second},
		Evidence: evidence.NewClient(listentest.Serve(t, mux)), Interval: 100 * time.Millisecond, FastInterval: 30 * time.Millisecond,
		Detector: detect.Settings{Failures: 3, RecoverAfter: 500 * time.Millisecond, RecoverMax: 4 * time.Second, FlapWindow: time.Minute},
		Log:      log, Metrics: NewMetrics(prometheus.NewRegistry())}
	for _, f := range edit {
		f(r.monitor)
	}
	wg.Go(func() { r.monitor.Run(ctx) })
	return r
}

func (r *rig) domain(name string, a directory.Activation, primaries ...string) {
	r.t.Helper()
	_, err := r.store.Pool.Exec(r.t.Context(), `INSERT INTO domain (name, primaries, activation) VALUES ($1, $2, $3)`, name, primaries, a)
	if err != nil {
		r.t.Fatal(err)
	}
}

// state is "mode failing" of a domain, as the database has it.
func (r *rig) state(name string) (s string) {
	err := r.store.Pool.QueryRow(context.WithoutCancel(r.t.Context()),
		`SELECT mode || CASE WHEN primary_failing THEN ' failing' ELSE '' END FROM domain WHERE name = $1`, name).Scan(&s)
	if err != nil {
		return err.Error()
	}
	return s
}

func (r *rig) waitFor(name, want string) {
	r.t.Helper()
	wait.True(r.t, name+" "+want, func() bool { return r.state(name) == want })
}

func (r *rig) health(name string) (s string) {
	rows, err := r.store.Health(r.t.Context(), name)
	if err != nil {
		return err.Error()
	}
	for _, h := range rows {
		s += h.Class + " "
	}
	return s
}

func TestEmergencyAndReturn(t *testing.T) {
	t.Parallel()
	r, p := newRig(t, cluster), newPrimary(t)
	r.domain("example.test", directory.Automatic, p.address)
	wait.True(t, "healthy", func() bool { return r.health("example.test") == "healthy " })
	p.stop()
	r.waitFor("example.test", "emergency failing")
	p.start()
	r.waitFor("example.test", "normal")
	line, err := r.store.Timeline(t.Context(), "example.test", 10)
	if err != nil || len(line) != 2 {
		t.Fatalf("timeline %+v, %v", line, err)
	}
	if line[1].Actor != actor || line[1].Manual || line[1].To != directory.Emergency || string(line[1].Evidence) == "{}" {
		t.Errorf("timeline %+v", line[1])
	}
	if took := line[0].At.Sub(line[1].At); took < 500*time.Millisecond {
		t.Errorf("returned after %v", took)
	}
	if n := testutil.ToFloat64(r.monitor.Metrics.switches.WithLabelValues("emergency", actor)); n != 1 {
		t.Errorf("%v switches counted", n)
	}
}

func TestServerWide4xxAndTwoPrimaries(t *testing.T) {
	t.Parallel()
	r, a, b := newRig(t, cluster), newPrimary(t), newPrimary(t)
	r.domain("example.test", directory.Automatic, a.address, b.address)
	a.stop()
	wait.True(t, "one of two down", func() bool {
		h := r.health("example.test")
		return h == "unreachable healthy " || h == "healthy unreachable "
	})
	if s := r.state("example.test"); s != "normal" {
		t.Errorf("with one primary left: %s", s)
	}
	b.mu.Lock()
	b.mail = "451 4.3.0 disk full"
	b.mu.Unlock()
	r.waitFor("example.test", "emergency failing")
}

func TestActivations(t *testing.T) {
	t.Parallel()
	r, p := newRig(t, cluster), newPrimary(t)
	p.stop()
	r.domain("manual.test", directory.Manual, p.address)
	r.domain("observe.test", directory.Observe, p.address)
	r.waitFor("manual.test", "normal failing")
	r.waitFor("observe.test", "normal failing")
	observed := func(n int) func() bool {
		return func() bool {
			line, err := r.store.Timeline(t.Context(), "observe.test", 10)
			return err == nil && len(line) == n && line[0].Observed
		}
	}
	wait.True(t, "the observed emergency", observed(1))
	p.start()
	wait.True(t, "the observed return", observed(2))
	r.waitFor("manual.test", "normal")
	r.waitFor("observe.test", "normal")
	if line, err := r.store.Timeline(t.Context(), "manual.test", 10); err != nil || len(line) != 0 {
		t.Errorf("activation manual: %+v, %v", line, err)
	}
}

func TestManualEmergencyStays(t *testing.T) {
	t.Parallel()
	r, p := newRig(t, cluster), newPrimary(t)
	r.domain("example.test", directory.Automatic, p.address)
	wait.True(t, "healthy", func() bool { return r.health("example.test") == "healthy " })
	person := store.Switch{Domain: "example.test", To: directory.Emergency, Actor: "op", Manual: true, Reason: "maintenance"}
	if _, err := r.store.SwitchMode(t.Context(), person); err != nil {
		t.Fatal(err)
	}
	probes := func() float64 { return testutil.ToFloat64(r.monitor.Metrics.probes.WithLabelValues("healthy")) }
	wait.True(t, "the person's switch noticed", func() bool {
		return testutil.ToFloat64(r.monitor.Metrics.switches.WithLabelValues("emergency", "person")) == 1
	})
	before := probes()
	wait.True(t, "thirty more probes", func() bool { return probes() > before+30 })
	if s := r.state("example.test"); s != "emergency" {
		t.Errorf("state %s", s)
	}
}

// TestEvidence: fallbacks bring probes at once; what is old or of no domain is
// nothing.
func TestEvidence(t *testing.T) {
	t.Parallel()
	r, p := newRig(t, cluster), newPrimary(t)
	r.domain("example.test", directory.Automatic, p.address)
	wait.True(t, "healthy", func() bool { return r.health("example.test") == "healthy " })
	for range 50 { // greylisting
		r.ring.Add(evidence.Event{At: time.Now(), Domain: "example.test", Class: evidence.Fallback, Recipient: "ana@example.test"})
	}
	r.ring.Add(evidence.Event{At: time.Now().Add(-time.Hour), Domain: "example.test", Class: evidence.FallbackRefused})
	r.ring.Add(evidence.Event{At: time.Now(), Domain: "unknown.test", Class: evidence.Fallback})
	before := testutil.ToFloat64(r.monitor.Metrics.probes.WithLabelValues("healthy"))
	wait.True(t, "ten more probes", func() bool {
		return testutil.ToFloat64(r.monitor.Metrics.probes.WithLabelValues("healthy")) > before+10
	})
	if s := r.state("example.test"); s != "normal" {
		t.Errorf("greylisting alone: %s", s)
	}
	if n := testutil.ToFloat64(r.monitor.Metrics.events.WithLabelValues("fallback-refused")); n != 0 {
		t.Errorf("%v old events taken", n)
	}
}

// TestEvidenceWakes: with a long interval it is policyd's evidence that brings
// the probes.
func TestEvidenceWakes(t *testing.T) {
	t.Parallel()
	r, p := newRig(t, cluster, func(m *Monitor) { m.Interval = time.Hour }), newPrimary(t)
	r.domain("example.test", directory.Automatic, p.address)
	wait.True(t, "healthy", func() bool { return r.health("example.test") == "healthy " })
	p.stop()
	r.ring.Add(evidence.Event{At: time.Now(), Domain: "example.test", Class: evidence.Fallback})
	r.waitFor("example.test", "emergency failing")
}

// TestDomainsComeAndGo: watchers follow the directory.
func TestDomainsComeAndGo(t *testing.T) {
	t.Parallel()
	r, p := newRig(t, cluster), newPrimary(t)
	watched := func(n float64) func() bool {
		return func() bool { return testutil.ToFloat64(r.monitor.Metrics.domains) == n }
	}
	r.domain("a.test", directory.Automatic, p.address)
	r.domain("b.test", directory.Automatic, p.address)
	wait.True(t, "two watchers", watched(2))
	if _, err := r.store.Pool.Exec(t.Context(), "DELETE FROM domain WHERE name = 'a.test'"); err != nil {
		t.Fatal(err)
	}
	wait.True(t, "one watcher", watched(1))
	r.domain("a.test", directory.Automatic, p.address)
	wait.True(t, "a.test is watched again", func() bool { return r.health("a.test") == "healthy " })
}

// TestPostgresDownMeanwhile: the primary goes while PostgreSQL is down; the
// switch is made when it is back.
func TestPostgresDownMeanwhile(t *testing.T) {
	t.Parallel()
	own, err := pgtest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { own.Remove() })
	r, p := newRig(t, own), newPrimary(t)
	r.domain("example.test", directory.Automatic, p.address)
	wait.True(t, "healthy", func() bool { return r.health("example.test") == "healthy " })
	if err := own.StopServer(); err != nil {
		t.Fatal(err)
	}
	p.stop()
	wait.True(t, "writes refused", func() bool { return testutil.ToFloat64(r.monitor.Metrics.errors) > 3 })
	if err := own.StartServer(); err != nil {
		t.Fatal(err)
	}
	r.waitFor("example.test", "emergency failing")
	if line, err := r.store.Timeline(t.Context(), "example.test", 10); err != nil || len(line) != 1 {
		t.Errorf("timeline %+v, %v", line, err)
	}
	p.start()
	r.waitFor("example.test", "normal")
}

// TestNewTermResumes: a worker that takes over keeps counting flaps and goes
// on with an emergency that another one began.
func TestNewTermResumes(t *testing.T) {
	t.Parallel()
	r, p := newRig(t, cluster), newPrimary(t)
	r.domain("example.test", directory.Automatic, p.address)
	p.stop()
	r.waitFor("example.test", "emergency failing")
	r.stop()
	p.start()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	m := *r.monitor
	m.Evidence = nil
	m.Metrics = NewMetrics(prometheus.NewRegistry())
	cfg := r.store.Pool.Config().ConnConfig.Copy()
	wg.Go(func() {
		(&directory.Follower{Directory: m.Directory, Config: cfg, Log: m.Log}).Run(ctx) //nolint:errcheck
	})
	wg.Go(func() { m.Run(ctx) })
	r.waitFor("example.test", "normal")
}

// TestFailureIsSaidAgain: policyd believes it for a while only.
func TestFailureIsSaidAgain(t *testing.T) {
	t.Parallel()
	r, p := newRig(t, cluster), newPrimary(t)
	r.domain("example.test", directory.Manual, p.address)
	p.stop()
	r.waitFor("example.test", "normal failing")
	version := func() (v int64) {
		if err := r.store.Pool.QueryRow(t.Context(), `SELECT version FROM domain`).Scan(&v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	wait.True(t, "the directory to know it", func() bool { return r.monitor.Directory.Version() >= version() })
	d, _ := r.monitor.Directory.Domain("example.test")
	w := &watcher{term: &term{Monitor: r.monitor}, name: "example.test", state: detect.State{Failing: true}}
	for _, tt := range []struct {
		after time.Duration
		said  int64
	}{{0, 1}, {confirmEvery - time.Second, 0}, {confirmEvery, 1}, {confirmEvery + time.Second, 0}} {
		before := version()
		if w.mark(t.Context(), d, time.Unix(0, 0).Add(tt.after)); version() != before+tt.said {
			t.Errorf("after %v: version %d, was %d", tt.after, version(), before)
		}
	}
	whole := *d
	whole.Mode = directory.Emergency // of all mailboxes: nobody is asked for
	before := version()
	if w.mark(t.Context(), &whole, time.Now()); version() != before {
		t.Error("said again in an emergency of the whole domain")
	}
	whole.Scope = directory.ScopeSelected
	if w.mark(t.Context(), &whole, time.Now()); version() != before+1 {
		t.Error("not said again in an emergency of selected mailboxes")
	}
}
