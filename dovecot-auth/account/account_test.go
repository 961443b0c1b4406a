package account

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"understudy/dovecot-auth/lockout"
	"understudy/internal/directory"
	"understudy/internal/password"
	"understudy/internal/password/passwordtest"
)

const (
	ana   = "ana@example.test"
	right = "correct horse"
)

var client = netip.MustParseAddr("192.0.2.7")

var rightHash = passwordtest.Hash(right)

// rig is an Accounts with its parts and a clock that the test sets.
type rig struct {
	*Accounts
	mu  sync.Mutex
	now time.Time
}

func (r *rig) clock() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

func (r *rig) forward(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = r.now.Add(d)
}

func newRig(t *testing.T, concurrency, queue int) *rig {
	t.Helper()
	r := &rig{now: time.Unix(1e9, 0)}
	locks, err := lockout.New(lockout.Default(), r.clock)
	if err != nil {
		t.Fatal(err)
	}
	r.Accounts = New(directory.New(), password.NewVerifier(concurrency, queue), locks,
		Place{Directory: "/srv/mail", UID: 5000, GID: 5000, DefaultQuota: 1 << 30}, NewMetrics(prometheus.NewRegistry()),
		slog.New(slog.DiscardHandler), r.clock)
	return r
}

func (r *rig) load(creds ...*directory.Credential) {
	r.directory.Apply(&directory.Change{Full: true, Epoch: "e", Version: 10,
		Domains:     []*directory.Domain{{ID: 1, Name: "example.test", Scope: directory.ScopeAll, Version: 1}},
		Mailboxes:   []*directory.Mailbox{{ID: 1, DomainID: 1, Address: ana, Enabled: true, Version: 2}},
		Aliases:     []*directory.Alias{{ID: 1, DomainID: 1, Address: "sales@example.test", MailboxID: 1, Version: 3}},
		Credentials: creds})
}

func mainCredential() *directory.Credential {
	return &directory.Credential{ID: 1, MailboxID: 1, Kind: "password", Hash: rightHash, Version: 10}
}

func (r *rig) try(t *testing.T, user, secret string, want Result) Answer {
	t.Helper()
	got := r.Login(t.Context(), Attempt{Service: "imap", IP: client, User: user, Password: secret})
	if got.Result != want {
		t.Errorf("%s with %q: %v (%s), want %v", user, secret, got.Result, got.Reason, want)
	}
	return got
}

func (r *rig) hits() int { return int(testutil.ToFloat64(r.metrics.Hits)) }

func TestNotLoadedIsTemporary(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 1)
	r.try(t, ana, right, Temporary)
	if got := r.Lookup("nobody@nowhere.test"); got.Result != Temporary {
		t.Errorf("Lookup = %v", got)
	}
	r.load(mainCredential())
	r.try(t, ana, right, OK)
	if got := r.Lookup("nobody@nowhere.test"); got.Result != Unknown {
		t.Errorf("Lookup = %v", got)
	}
}

func TestCache(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 1)
	r.load(mainCredential())
	r.try(t, ana, right, OK)
	r.try(t, ana, right, OK)
	r.try(t, "sales@example.test", right, OK)
	if r.hits() != 2 {
		t.Errorf("%d hits, want 2", r.hits())
	}
	r.try(t, ana, "wrong", Bad)
	r.try(t, ana, "wrong", Bad) // what is wrong is remembered as well
	if r.hits() != 3 {
		t.Errorf("%d hits, want 3", r.hits())
	}
	r.forward(cacheTTL)
	r.try(t, ana, right, OK)
	if r.hits() != 3 {
		t.Errorf("%d hits after the entry's time, want 3", r.hits())
	}
}

func TestCredentialChangeCountsAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 1)
	r.load(mainCredential())
	r.try(t, ana, right, OK)
	r.try(t, ana, "new password", Bad)
	h, err := password.Hash("new password")
	if err != nil {
		t.Fatal(err)
	}
	r.directory.Apply(&directory.Change{Epoch: "e", Version: 11,
		Credentials: []*directory.Credential{{ID: 1, MailboxID: 1, Kind: "password", Hash: h, Version: 11}}})
	r.try(t, ana, "new password", OK)
	r.try(t, ana, right, Bad)

	app, appHash, err := password.NewApp()
	if err != nil {
		t.Fatal(err)
	}
	r.directory.Apply(&directory.Change{Epoch: "e", Version: 12,
		Credentials: []*directory.Credential{{ID: 2, MailboxID: 1, Kind: "app", Label: "phone", Hash: appHash, Version: 12}}})
	r.try(t, ana, app, OK)
	r.try(t, ana, "new password", OK)
	r.directory.Apply(&directory.Change{Epoch: "e", Version: 13, Deleted: []directory.Deleted{{Kind: "credential", ID: 2, Version: 13}}})
	r.try(t, ana, app, Bad)

	r.directory.Apply(&directory.Change{Epoch: "e", Version: 14,
		Mailboxes: []*directory.Mailbox{{ID: 1, DomainID: 1, Address: ana, Enabled: false, Version: 14}}})
	r.try(t, ana, "new password", Bad)
	if got := r.Lookup(ana); got.Result != OK {
		t.Errorf("Lookup of a disabled mailbox = %v: it must still get mail", got.Result)
	}
	r.directory.Apply(&directory.Change{Epoch: "e", Version: 15, Deleted: []directory.Deleted{{Kind: "mailbox", ID: 1, Version: 15}}})
	r.try(t, ana, "new password", Unknown)
}

func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	c := newCache(func() time.Time { return now })
	keys := newFingerprinter()
	for n := range cacheMax + 100 {
		c.put(keys.of(ana, fmt.Sprint(n)), edition{}, true)
	}
	if len(c.entries) != cacheMax || c.order.Len() != cacheMax {
		t.Errorf("%d entries, want %d", len(c.entries), cacheMax)
	}
	if _, found := c.get(keys.of(ana, "0"), edition{}); found {
		t.Error("the oldest entry is still there")
	}
	now = now.Add(cacheTTL)
	c.put(keys.of(ana, "x"), edition{}, true)
	if len(c.entries) != 1 {
		t.Errorf("%d entries after their time, want 1", len(c.entries))
	}
}

func TestLockout(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 1)
	r.load(mainCredential())
	for n := range 4 {
		r.try(t, ana, fmt.Sprint("wrong ", n), Bad)
	}
	r.try(t, ana, right, OK) // forgives
	for n := range 5 {
		r.try(t, "sales@example.test", fmt.Sprint("wrong ", n), Bad)
	}
	if got := r.try(t, ana, right, Locked); got.Reason != "Too many wrong passwords. Try again in 30 seconds." {
		t.Errorf("reason %q", got.Reason)
	}
	r.try(t, ana, "wrong", Locked)
	r.forward(30 * time.Second) // those tries did not prolong it
	r.try(t, ana, right, OK)
	for n := range 5 {
		r.try(t, "nobody@example.test", fmt.Sprint("wrong ", n), Unknown)
	}
	r.try(t, "nobody@example.test", "wrong", Locked) // as if it existed
}

// A phone with last week's password tries it without end.
func TestOldPasswordDoesNotLock(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 1)
	r.load(mainCredential())
	for range 20 {
		r.try(t, ana, "last week's password", Bad)
		r.forward(10 * time.Second)
	}
	r.try(t, ana, right, OK)
}

// A burst gets hardly more tries than the same guesses one after the other.
func TestBurstOfGuesses(t *testing.T) {
	t.Parallel()
	const concurrency = 2
	r := newRig(t, concurrency, 100)
	r.load(mainCredential())
	var mu sync.Mutex
	count := map[Result]int{}
	var wg sync.WaitGroup
	for n := range 40 {
		wg.Go(func() {
			a := r.Login(t.Context(), Attempt{User: ana, Password: fmt.Sprint("guess ", n)})
			mu.Lock()
			defer mu.Unlock()
			count[a.Result]++
		})
	}
	wg.Wait()
	if tried := count[Bad]; tried > 5+concurrency-1 || tried+count[Locked]+count[Temporary] != 40 {
		t.Errorf("%v: more than %d guesses were tried", count, 5+concurrency-1)
	}
}

// A mail program opens several connections at once: one verification will do.
func TestParallelLoginsShareAVerification(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 100)
	r.load(mainCredential())
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() { r.try(t, ana, right, OK) })
	}
	wg.Wait()
	if r.hits() != 49 {
		t.Errorf("%d hits, want 49", r.hits())
	}
}

func TestBusyIsTemporary(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 1)
	r.load(mainCredential())
	release, running := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		r.verifier.Do(context.Background(), func(context.Context) error { close(running); <-release; return nil })
	})
	<-running
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := r.Login(ctx, Attempt{User: ana, Password: right}); got.Result != Temporary {
		t.Errorf("Login = %v", got)
	}
	if n := testutil.ToFloat64(r.metrics.Busy); n != 1 {
		t.Errorf("busy was counted %v times", n)
	}
	if got := r.Lookup(ana); got.Result != OK {
		t.Errorf("Lookup = %v: it waits for nothing", got)
	}
	close(release)
	wg.Wait()
	r.try(t, ana, right, OK)
}

func TestUnusableHash(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 1)
	broken := &directory.Credential{ID: 2, MailboxID: 1, Kind: "app", Label: "x", Hash: "$argon2id$v=19$m=4294967295,t=2,p=1$AAAA$AAAA", Version: 9}
	r.load(broken, mainCredential())
	r.try(t, ana, right, OK)          // another one matches
	r.try(t, ana, "wrong", Temporary) // perhaps it was the unusable one
	if n := testutil.ToFloat64(r.metrics.BadHash); n != 1 {
		t.Errorf("unusable hashes were counted %v times", n)
	}
}

func TestInWords(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		time.Millisecond: "2 seconds", 29500 * time.Millisecond: "30 seconds", time.Minute: "60 seconds",
		61 * time.Second: "2 minutes", 15 * time.Minute: "15 minutes",
	} {
		if got := inWords(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestHome(t *testing.T) {
	t.Parallel()
	for canonical, want := range map[string]string{
		"ana@example.test":             "/srv/mail/example.test/ana",
		"a.b-c_d9@example.test":        "/srv/mail/example.test/a.b-c_d9",
		".hidden@example.test":         "/srv/mail/example.test/=2ehidden",
		"..@example.test":              "/srv/mail/example.test/=2e.",
		`"../../etc"@example.test`:     "/srv/mail/example.test/=22..=2f..=2fetc=22",
		"a/b@example.test":             "/srv/mail/example.test/a=2fb",
		"a:b%u~@example.test":          "/srv/mail/example.test/a=3ab=25u=7e",
		"a=2fb@example.test":           "/srv/mail/example.test/a=3d2fb",
		"é@xn--bcher-kva.example":      "/srv/mail/xn--bcher-kva.example/=c3=a9",
		`"a@b"@example.test`:           "/srv/mail/example.test/=22a=40b=22",
		"postmaster@[192.0.2.1]":       "/srv/mail/=5b192.0.2.1=5d/postmaster",
		"postmaster@[ipv6:2001:db8::]": "/srv/mail/=5bipv6=3a2001=3adb8=3a=3a=5d/postmaster",
	} {
		if got := home("/srv/mail", canonical); got != want {
			t.Errorf("home of %s is %s, want %s", canonical, got, want)
		}
	}
	long := strings.Repeat("é", 120)
	a, b := home("/m", long+"a@example.test"), home("/m", long+"b@example.test")
	if a == b || len(a) != len("/m/example.test/")+maxComponent {
		t.Errorf("homes of long names: %s and %s", a, b)
	}
}
