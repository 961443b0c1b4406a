package recipients

import (
	"context"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"understudy/internal/address"
	"understudy/internal/directory"
	"understudy/internal/pgtest"
	"understudy/internal/store"
	"understudy/internal/store/storetest"
	"understudy/internal/wait"
	"understudy/worker/probe"
)

var cluster *pgtest.Cluster

func TestMain(m *testing.M) { pgtest.Main(m, &cluster) }

// primary is a mail server that has certain recipients.
type primary struct {
	mu       sync.Mutex
	has      []string // local parts; "*" is everybody
	later    bool     // it defers all
	asked    []string
	messages int
}

func (p *primary) NewSession(*smtp.Conn) (smtp.Session, error) { return p, nil }
func (p *primary) Mail(string, *smtp.MailOptions) error        { return nil }
func (p *primary) Reset()                                      {}
func (p *primary) Logout() error                               { return nil }
func (p *primary) Data(r io.Reader) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.messages++
	_, err := io.Copy(io.Discard, r)
	return err
}

func (p *primary) Rcpt(to string, _ *smtp.RcptOptions) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, to)
	local, _, _ := strings.Cut(to, "@")
	switch {
	case p.later:
		return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 2}, Message: "later"}
	case slices.Contains(p.has, local) || slices.Contains(p.has, "*"):
		return nil
	}
	return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user here"}
}

func (p *primary) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = nil
	change()
}

// world is a database, a primary, and a Recipients that follows the directory.
type world struct {
	*Recipients
	t       *testing.T
	primary *primary
	n       int64
}

const domain = "example.test"

func newWorld(t *testing.T, has ...string) *world {
	t.Helper()
	name := storetest.Database(t, cluster)
	cfg := storetest.Config(t, cluster, name)
	s, err := store.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, primary: &primary{has: has}}
	srv := smtp.NewServer(w.primary)
	srv.Domain = "mail." + domain
	go srv.Serve(l) //nolint:errcheck // ends with Close
	t.Cleanup(func() { srv.Close() })

	f := &directory.Follower{Directory: directory.New(), Config: cfg.ConnConfig.Copy(), Log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { f.Run(ctx) }) //nolint:errcheck // no file, no error
	t.Cleanup(func() { cancel(); wg.Wait() })
	w.Recipients = &Recipients{Directory: f.Directory, Store: s, Asker: &probe.Prober{Helo: "gw.test", Timeout: 15 * time.Second},
		CheckEvery: time.Nanosecond, MarkAfter: 14 * 24 * time.Hour, PerMinute: 20, Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics(prometheus.NewRegistry())}
	if _, err := s.AddDomain(t.Context(), directory.Domain{Name: domain, Primaries: []string{l.Addr().String()}}); err != nil {
		t.Fatal(err)
	}
	if err := s.AddMailboxes(t.Context(), store.NewMailbox{Address: "ana@" + domain}, store.NewMailbox{Address: "bruno@" + domain}); err != nil {
		t.Fatal(err)
	}
	if err := s.AddAlias(t.Context(), "info@"+domain, "ana@"+domain); err != nil {
		t.Fatal(err)
	}
	w.synced()
	return w
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	if _, err := w.Store.Pool.Exec(w.t.Context(), sql, args...); err != nil {
		w.t.Fatal(err)
	}
	w.synced()
}

// synced waits until the directory has every change.
func (w *world) synced() {
	w.t.Helper()
	var want int64
	if err := w.Store.Pool.QueryRow(w.t.Context(), `SELECT last_value FROM directory_version`).Scan(&want); err != nil {
		w.t.Fatal(err)
	}
	wait.True(w.t, "the directory follows", func() bool { return w.Directory.Version() >= want })
}

func (w *world) message(direction string, to ...string) {
	w.t.Helper()
	w.indexed(time.Minute, direction, to...)
}

// indexed is a message that comes into the index after this time.
func (w *world) indexed(late time.Duration, direction string, to ...string) {
	w.t.Helper()
	w.n++
	m := store.IndexedMessage{ID: uuid.Must(uuid.NewV7()), Received: time.Now().Add(-late), Direction: direction, Recipients: to,
		Mailboxes: []string{"ana@" + domain}, Segment: "s", Offset: w.n, Length: 1}
	if err := w.Store.IndexBatch(w.t.Context(), store.IndexBatch{Segment: "s", From: w.n - 1, To: w.n, Messages: []store.IndexedMessage{m}}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) pass() {
	w.t.Helper()
	if err := w.Pass(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// soon is a pass at the time for which the next one is set.
func (w *world) soon() {
	w.t.Helper()
	w.exec(`UPDATE recipient_domain SET next_at = now()`)
	w.pass()
}

func (w *world) offers(want ...string) {
	w.t.Helper()
	list, err := w.Store.Offers(w.t.Context(), domain, "", 100)
	var got []string
	for _, o := range list {
		got = append(got, o.Address)
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		w.t.Errorf("offers: %v %s", err, diff)
	}
}

func (w *world) refused(want ...string) {
	w.t.Helper()
	list, err := w.Store.Refusals(w.t.Context(), domain)
	var got []string
	for _, r := range list {
		got = append(got, r.Address)
		if !strings.Contains(r.Reply, "no such user") {
			w.t.Errorf("reply %q", r.Reply)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		w.t.Errorf("refused: %v %s", err, diff)
	}
}

func (w *world) mailboxes() (out []string) {
	w.t.Helper()
	list, err := w.Store.Mailboxes(w.t.Context(), store.Everything, store.MailboxQuery{Domain: domain, Limit: 100})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, m := range list {
		out = append(out, m.Address)
	}
	return out
}

func TestOffers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "ana", "bruno", "info", "dora", "emil", "later")
	w.message("inbound", "Dora+x@Example.test", "ghost@example.test", "ana@example.test", "INFO@example.test", "x@elsewhere.test", "not an address")
	w.message("inbound", "emil@example.test", "usér@example.test")
	w.message("outbound", "later@example.test")
	w.pass()
	w.offers("dora@example.test", "emil@example.test")
	if got := w.mailboxes(); len(got) != 2 {
		t.Errorf("added unasked: %v", got)
	}
	if w.primary.messages != 0 {
		t.Error("a message was sent")
	}
	if err := w.Store.IgnoreOffer(t.Context(), domain, "emil@example.test"); err != nil {
		t.Fatal(err)
	}
	if got, err := w.Store.AcceptOffers(t.Context(), domain, "dora@example.test", "emil@example.test"); err == nil {
		t.Errorf("accepted what is ignored: %v", got)
	}
	w.offers("dora@example.test")
	if got, err := w.Store.AcceptOffers(t.Context(), domain); err != nil || !slices.Equal(got, []string{"dora@example.test"}) {
		t.Errorf("accepted %v, %v", got, err)
	}
	w.synced()
	w.pass()
	w.offers()
	if got := w.mailboxes(); !slices.Contains(got, "dora@example.test") || len(got) != 3 {
		t.Errorf("mailboxes %v", got)
	}
	// An offer that the primary does not have any more is withdrawn.
	w.primary.set(func() { w.primary.has = append(w.primary.has, "fritz") })
	w.message("inbound", "fritz@example.test")
	w.pass()
	w.offers("fritz@example.test")
	w.primary.set(func() { w.primary.has = []string{"ana"} })
	w.pass()
	w.offers()
}

// TestLateIndex: however late mail comes into the index, and in whatever
// order, its recipients are offered, once.
func TestLateIndex(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "ana", "bruno", "info", "dora", "emil", "fritz", "gerd")
	w.message("inbound", "dora@example.test")
	w.pass()
	w.indexed(11*time.Minute, "inbound", "emil@example.test") // after what was read
	w.indexed(30*time.Hour, "inbound", "fritz@example.test")
	w.pass()
	w.offers("dora@example.test", "emil@example.test", "fritz@example.test")
	w.exec(`DELETE FROM recipient_offer`)
	w.pass()
	w.offers() // nothing is read again
	w.indexed(70*24*time.Hour, "inbound", "gerd@example.test")
	w.pass()
	w.offers("gerd@example.test")
}

func TestLearnSettings(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "ana", "bruno", "info", "dora")
	set := func(l store.Learn) {
		t.Helper()
		if err := w.Store.SetLearn(t.Context(), domain, l); err != nil {
			t.Fatal(err)
		}
	}
	set(store.LearnOff)
	w.message("inbound", "dora@example.test")
	w.pass()
	w.offers()
	set(store.LearnAdd)
	w.message("inbound", "dora@example.test")
	w.pass()
	if got := w.mailboxes(); !slices.Contains(got, "dora@example.test") {
		t.Errorf("mailboxes %v", got)
	}
	if err := w.Store.SetLearn(t.Context(), domain, "always"); err == nil {
		t.Error("a setting that does not exist is taken")
	}
}

func TestRefusedForWeeks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "ana", "info")
	w.soon()
	w.refused() // for seconds
	w.exec(`UPDATE recipient_check SET refused_since = now() - interval '13 days' WHERE refused_since IS NOT NULL`)
	w.soon()
	w.refused()
	w.exec(`UPDATE recipient_check SET refused_since = now() - interval '15 days' WHERE refused_since IS NOT NULL`)
	w.primary.set(func() { w.primary.later = true })
	w.soon()
	w.refused() // no verdict is none
	w.primary.set(func() { w.primary.later = false })
	w.soon()
	w.refused("bruno@example.test")
	if got := w.mailboxes(); len(got) != 2 {
		t.Errorf("mailboxes %v", got)
	}
	w.primary.set(func() { w.primary.later = true })
	w.soon()
	w.refused("bruno@example.test") // nor does it take a mark away
	w.primary.set(func() { w.primary.later, w.primary.has = false, append(w.primary.has, "bruno") })
	w.soon()
	w.refused()
}

// TestRefusedIsKnown: the mail services know at once what the primary said of
// a mailbox or an alias, so that nobody vouches for it; another answer, or a
// primary that takes everybody, takes that back. What changes nothing wakes
// nobody.
func TestRefusedIsKnown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "ana")
	known := func(want ...string) {
		t.Helper()
		w.synced()
		var got []string
		for _, local := range []string{"ana", "bruno", "info"} {
			a, err := address.Parse(local + "@" + domain)
			if err != nil {
				t.Fatal(err)
			}
			if w.Directory.Recipient(a).Refused {
				got = append(got, local)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	known()
	w.soon()
	known("bruno", "info")
	version := w.Directory.Version()
	w.soon()
	w.primary.set(func() { w.primary.later = true })
	w.soon()
	known("bruno", "info")
	if v := w.Directory.Version(); v != version {
		t.Errorf("%d changes without one", v-version)
	}
	w.primary.set(func() { w.primary.later, w.primary.has = false, []string{"ana", "info"} })
	w.soon()
	known("bruno")
	w.primary.set(func() { w.primary.has = []string{"*"} })
	w.soon()
	known()
}

func TestCatchAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "*")
	w.message("inbound", "x1@example.test", "x2@example.test")
	w.pass()
	w.offers()
	d, err := w.Store.RecipientDomain(t.Context(), domain)
	if err != nil || d.CatchAll == nil || !*d.CatchAll {
		t.Fatalf("%+v, %v", d, err)
	}
	if n := len(w.primary.asked); n != 1 || !strings.HasPrefix(w.primary.asked[0], "understudy-check-") {
		t.Errorf("asked for %v", w.primary.asked)
	}
	w.primary.set(func() { w.primary.has = []string{"ana", "bruno", "info", "x1"} })
	w.message("inbound", "x1@example.test")
	w.pass()
	w.message("inbound", "x1@example.test")
	w.pass()
	w.offers("x1@example.test")
	if d, err = w.Store.RecipientDomain(t.Context(), domain); err != nil || *d.CatchAll || d.Offered != 1 {
		t.Errorf("%+v, %v", d, err)
	}
}

// TestNotWhileItFails: a primary is left alone while it has trouble.
func TestNotWhileItFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "ana")
	for _, state := range []string{"primary_failing = true", "primary_failing = false, mode = 'emergency'"} {
		w.exec(`UPDATE domain SET ` + state)
		w.soon()
		if len(w.primary.asked) > 0 {
			t.Errorf("%s: asked for %v", state, w.primary.asked)
		}
	}
	w.exec(`UPDATE domain SET mode = 'normal'`)
	w.soon()
	if len(w.primary.asked) != 4 { // nobody, ana, bruno, info
		t.Errorf("asked for %v", w.primary.asked)
	}
}

// TestSlowly: no more addresses a minute than set, and in the end all.
func TestSlowly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "ana", "bruno", "info")
	w.CheckEvery, w.PerMinute = time.Hour, 2
	w.pass()
	w.pass()
	if len(w.primary.asked) != 3 { // nobody, and two
		t.Errorf("asked for %v", w.primary.asked)
	}
	w.soon() // a minute later
	w.soon()
	if len(w.primary.asked) != 4 {
		t.Errorf("asked for %v", w.primary.asked)
	}
}
