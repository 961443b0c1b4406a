package lockout

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	ana   = "ana@example.test"
	bruno = "bruno@example.test"
)

var (
	far   = netip.MustParseAddr("192.0.2.7")
	other = netip.MustParseAddr("198.51.100.9")
)

// clock is a clock that the test sets.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func (c *clock) forward(d time.Duration) { c.t = c.t.Add(d) }

func newLockout(t *testing.T, change func(*Config)) (*Lockout, *clock) {
	t.Helper()
	c := Default()
	if change != nil {
		change(&c)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	k := &clock{time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC)}
	l, err := New(c, k.now)
	if err != nil {
		t.Fatal(err)
	}
	return l, k
}

// guess is another one each time.
func guess(n int) (g Guess) {
	copy(g[:], fmt.Sprintf("guess %d", n))
	return g
}

func wantWait(t *testing.T, l *Lockout, account string, ip netip.Addr, want time.Duration) {
	t.Helper()
	if got := max(0, l.Wait(account, ip)); got != want {
		t.Errorf("%s from %s waits %v, want %v", account, ip, got, want)
	}
}

func TestAccountDelayGrows(t *testing.T) {
	t.Parallel()
	l, k := newLockout(t, nil)
	n := 0
	fail := func() {
		n++
		l.Failed(ana, netip.Addr{}, guess(n))
	}
	for range 4 {
		fail()
		wantWait(t, l, ana, far, 0)
	}
	for _, want := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute,
		8 * time.Minute, 15 * time.Minute, 15 * time.Minute} {
		fail()
		wantWait(t, l, ana, far, want)
		wantWait(t, l, ana, other, want) // an account is locked for every address
		wantWait(t, l, bruno, far, 0)
		k.forward(want - time.Second)
		wantWait(t, l, ana, far, time.Second)
		k.forward(time.Second)
		wantWait(t, l, ana, far, 0)
	}
	l.Succeeded(ana)
	for range 4 {
		fail()
		wantWait(t, l, ana, far, 0)
	}
}

func TestFailuresAreForgotten(t *testing.T) {
	t.Parallel()
	l, k := newLockout(t, nil)
	for n := range 8 {
		l.Failed(ana, far, guess(n))
	}
	k.forward(2*time.Hour + time.Second)
	for n := range 4 {
		l.Failed(ana, far, guess(n))
		wantWait(t, l, ana, far, 0)
	}
}

func TestRepeatedGuessIsOne(t *testing.T) {
	t.Parallel()
	l, k := newLockout(t, nil)
	for range 100 {
		l.Failed(ana, far, guess(1))
		k.forward(time.Minute)
	}
	wantWait(t, l, ana, far, 0)
	for range 5 {
		l.Failed(bruno, other, Guess{}) // no fingerprint: each counts
	}
	wantWait(t, l, bruno, other, 30*time.Second)
}

func TestAddressLock(t *testing.T) {
	t.Parallel()
	l, _ := newLockout(t, func(c *Config) { c.AddressFailures = 10; c.ExemptAddresses = append(c.ExemptAddresses, "203.0.113.5") })
	spray := func(ip string) {
		for n := range 10 {
			l.Failed(fmt.Sprintf("user%d@example.test", n), netip.MustParseAddr(ip), guess(n))
		}
	}
	for _, tc := range []struct {
		from, client string
		locked       bool
	}{
		{"192.0.2.7", "192.0.2.7", true},
		{"192.0.2.7", "::ffff:192.0.2.7", true},
		{"192.0.2.7", "192.0.2.8", false},
		{"2001:db8:1:2:aaaa::1", "2001:db8:1:2:bbbb::2", true}, // the same /64
		{"2001:db8:1:2:aaaa::1", "2001:db8:1:3::1", false},
		{"fe80::1%eth0", "fe80::2%eth1", true},
		{"127.0.0.1", "127.0.0.1", false},
		{"::1", "::1", false},
		{"::ffff:127.0.0.1", "127.0.0.1", false},
		{"203.0.113.5", "203.0.113.5", false}, // webmail's
	} {
		spray(tc.from)
		if got := l.Wait(ana, netip.MustParseAddr(tc.client)) > 0; got != tc.locked {
			t.Errorf("after guesses from %s, %s is locked: %v, want %v", tc.from, tc.client, got, tc.locked)
		}
	}
	l.Succeeded(ana)
	wantWait(t, l, ana, far, 15*time.Minute) // a success does not forgive the address
}

func TestFailedReportsLocks(t *testing.T) {
	t.Parallel()
	l, _ := newLockout(t, func(c *Config) { c.Failures, c.AddressFailures = 2, 3 })
	for n, want := range [][2]bool{{false, false}, {true, false}, {true, true}} {
		a, b := l.Failed(ana, far, guess(n))
		if got := [2]bool{a, b}; got != want {
			t.Errorf("failure %d: %v, want %v", n+1, got, want)
		}
	}
	if a, b := l.Locked(); a != 1 || b != 1 {
		t.Errorf("Locked = %d, %d, want 1, 1", a, b)
	}
	if a, b := l.Failed("", netip.Addr{}, guess(1)); a || b {
		t.Error("nobody from nowhere was locked")
	}
}

func TestBounded(t *testing.T) {
	t.Parallel()
	l, k := newLockout(t, func(c *Config) { c.MaxEntries = 100 })
	for n := range 1000 {
		l.Failed(fmt.Sprintf("user%d@example.test", n), netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), guess(n))
		k.forward(time.Second)
	}
	if a, b := len(l.accounts.entries), len(l.addresses.entries); a != 100 || b != 100 {
		t.Errorf("%d accounts and %d addresses are kept, want 100 each", a, b)
	}
	if l.accounts.entries["user999@example.test"] == nil || l.accounts.entries["user0@example.test"] != nil {
		t.Error("not the oldest was dropped")
	}
	k.forward(3 * time.Hour)
	l.Failed(ana, far, guess(1))
	if a := len(l.accounts.entries); a != 1 {
		t.Errorf("%d accounts are kept after all were forgotten", a)
	}
}

func TestSaveAndLoad(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lockout.json")
	l, k := newLockout(t, nil)
	for n := range 6 {
		l.Failed(ana, far, guess(n))
	}
	for n := range 40 {
		l.Failed(fmt.Sprintf("user%d@example.test", n), other, guess(n))
	}
	if err := l.Save(path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}

	again, k2 := newLockout(t, nil)
	k2.t = k.t.Add(20 * time.Second)
	if err := again.Load(path); err != nil {
		t.Fatal(err)
	}
	wantWait(t, again, ana, netip.Addr{}, 40*time.Second)
	wantWait(t, again, bruno, other, l.Wait(bruno, other)-20*time.Second)
	again.Failed(ana, netip.Addr{}, guess(99))
	wantWait(t, again, ana, netip.Addr{}, 2*time.Minute)

	setBack, k3 := newLockout(t, nil)
	k3.t = k.t.Add(-24 * time.Hour)
	if err := setBack.Load(path); err != nil {
		t.Fatal(err)
	}
	wantWait(t, setBack, ana, netip.Addr{}, time.Minute) // not a day and a minute

	later, k4 := newLockout(t, nil)
	k4.t = k.t.Add(24 * time.Hour)
	if err := later.Load(path); err != nil || len(later.accounts.entries) != 0 {
		t.Errorf("a day later: %v, %d accounts", err, len(later.accounts.entries))
	}

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := l.Save(path); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("saved though nothing had changed")
	}
}

func TestLoadOfBadFile(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"damaged": `{"format":1,"accounts":[{"key":`, "empty": "", "other format": `{"format":2}`,
	} {
		path := filepath.Join(t.TempDir(), "lockout.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		l, _ := newLockout(t, nil)
		if err := l.Load(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		wantWait(t, l, ana, far, 0)
	}
	l, _ := newLockout(t, nil)
	if err := l.Load(filepath.Join(t.TempDir(), "none.json")); err != nil {
		t.Errorf("a missing file: %v", err)
	}
}

func TestConfigMistakes(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*Config){
		"lockout.failures":         func(c *Config) { c.Failures = 0 },
		"lockout.address_failures": func(c *Config) { c.AddressFailures = -1 },
		"lockout.delay":            func(c *Config) { c.Delay = 0 },
		"lockout.max_entries":      func(c *Config) { c.MaxEntries = 0 },
		"delay <= max_delay":       func(c *Config) { c.MaxDelay = time.Second },
		"max_delay <= forget":      func(c *Config) { c.Forget = time.Minute },
		"lockout.exempt_addresses": func(c *Config) { c.ExemptAddresses = []string{"webmail.example.test"} },
	} {
		c := Default()
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate = %v, want %q in it", err, want)
		}
	}
}

// The file holds no trace of a password, not even a fingerprint.
func TestFileHoldsNoGuess(t *testing.T) {
	t.Parallel()
	l, _ := newLockout(t, nil)
	l.Failed(ana, far, guess(1))
	text, err := json.Marshal(l.accounts.export())
	if err != nil {
		t.Fatal(err)
	}
	const want = `[{"key":"ana@example.test","failures":1,"last":"2024-02-29T12:00:00Z"}]`
	if string(text) != want {
		t.Errorf("saved %s, want %s", text, want)
	}
}
