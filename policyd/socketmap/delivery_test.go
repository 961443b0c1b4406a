package socketmap

import (
	"errors"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"understudy/internal/directory"
	"understudy/internal/evidence"
	"understudy/policyd/policytest"
)

const (
	full    = "5.3.1 host 192.0.2.1[192.0.2.1] said: 552 5.3.1 disk full (in reply to end of DATA command)"
	unknown = "5.1.1 host 192.0.2.1[192.0.2.1] said: 550 5.1.1 no such user (in reply to RCPT TO command)"
	failed  = "5.0.0 host 192.0.2.1[192.0.2.1] said: 554 Transaction failed (in reply to end of DATA command)"
	gone    = "5.4.4 Host or domain name not found. Name service error for name=mx.example.test type=A: Host not found"
	put     = "4.3.2 host 192.0.2.1[192.0.2.1] said: 451 4.3.2 later (in reply to RCPT TO command)"
)

func TestDeliveryStatus(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	softened := func(key string) reply { return reply{"OK", "4" + key[1:], "softened"} }
	for _, c := range []struct {
		name   string
		auto   bool
		key    string
		domain []func(*policytest.Domain)
		want   reply
		events string
	}{
		{"success", true, "2.0.0 250 2.0.0 Ok: queued as X", nil, worksFor, ""},
		{"unknown user", true, unknown, nil, asItIs, "recipient-refused"},
		{"full disk", true, full, nil, softened(full), "server-reject"},
		{"full disk, unregistered recipient", false, full, nil, softened(full), "server-reject"},
		{"full disk, manual", false, full, []func(*policytest.Domain){manual}, asItIs, "server-reject"},
		{"full disk, observe", false, full, []func(*policytest.Domain){observe}, asItIs, "server-reject"},
		{"no reason", true, failed, nil, softened(failed), "server-reject"},
		{"no reason, manual", false, failed, []func(*policytest.Domain){manual}, asItIs, "server-reject"},
		{"re-entry put it off", true, put, nil, asItIs, ""},
		{"the primary put it off", false, put, nil, asItIs, "server-tempfail"},
		{"name gone, manual", false, gone, []func(*policytest.Domain){manual}, softened(gone), "unreachable"},
		{"unknown host", false, strings.ReplaceAll(full, "192.0.2.1", "192.0.2.99"), nil, asItIs, "server-reject"},
	} {
		domain := policytest.Example()
		for _, f := range c.domain {
			domain = domain.With(f)
		}
		ring := evidence.NewRing()
		d := &Deliveries{Directory: policytest.Directory(domain), Ring: ring}
		if got := d.answer(c.key, c.auto, now); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		if got := events(t, ring); got != c.events {
			t.Errorf("%s: events %q, want %q", c.name, got, c.events)
		}
	}
}

// events returns the classes in a ring.
func events(t *testing.T, ring *evidence.Ring) string {
	t.Helper()
	w := httptest.NewRecorder()
	ring.ServeHTTP(w, httptest.NewRequest("GET", "/evidence", nil))
	var out []string
	for part := range strings.SplitSeq(w.Body.String(), `"class":"`) {
		out = append(out, part[:strings.IndexByte(part, '"')])
	}
	return strings.Join(out[1:], " ")
}

// TestNoReasonForLong: refusals without a reason are softened for a while, and
// in an emergency for as long as it lasts.
func TestNoReasonForLong(t *testing.T) {
	t.Parallel()
	dir := policytest.Directory(policytest.Example())
	d := &Deliveries{Directory: dir, Ring: evidence.NewRing()}
	now := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	d.answer(failed, true, now)
	now = now.Add(16 * time.Minute)
	if got := d.answer(failed, true, now); got != asItIs {
		t.Errorf("a single refusal, tried again: %v", got)
	}
	policytest.Load(dir, policytest.Example().With(func(d *policytest.Domain) { d.Mode = directory.Emergency }))
	now = now.Add(2 * hostsFresh)
	if got := d.answer(failed, true, now); got.status != "OK" {
		t.Errorf("in emergency: %v", got)
	}
	if got := d.answer(unknown, true, now); got != asItIs {
		t.Errorf("in emergency, unknown user: %v", got)
	}
}

// TestDirectoryNotLoaded: relay-auto's results need no directory.
func TestDirectoryNotLoaded(t *testing.T) {
	t.Parallel()
	dir := directory.New()
	m := &Maps{Directory: dir, PortalTransport: portal, Deliveries: &Deliveries{Directory: dir, Ring: evidence.NewRing()}}
	for name, want := range map[string]string{"delivery_status_auto": "OK 4.3.1 ", "delivery_status_hold": "NOTFOUND "} {
		if got := string(m.answer(Query{Map: name, Key: full}).Bytes); !strings.Contains(got, ":"+want) {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// TestHostsBehindMX: results name an MX host, the directory "mx:NAME".
func TestHostsBehindMX(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	mx := func(d *policytest.Domain) { d.Primaries = []string{"mx:in.example.test"} }
	for _, c := range []struct {
		name   string
		domain policytest.Domain
		want   reply
	}{
		{"automatic", policytest.Example().With(mx), reply{"OK", "4" + full[1:], "softened"}},
		{"manual", policytest.Example().With(mx).With(manual), asItIs},
	} {
		d := &Deliveries{Directory: policytest.Directory(c.domain), Ring: evidence.NewRing()}
		if got := d.answer(full, false, now); got != asItIs {
			t.Errorf("%s, before its hosts are known: %v", c.name, got)
		}
		learn(t, &d.mx, now, "mx9.example.test", "192.0.2.1")
		if got := d.answer(full, false, now); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		learn(t, &d.mx, now.Add(mxFor), "mx9.example.test")
		if got := d.answer(full, false, now); got != asItIs {
			t.Errorf("%s, moved to another host: %v", c.name, got)
		}
	}
}

func learn(t *testing.T, m *mailHosts, now time.Time, hosts ...string) {
	t.Helper()
	const name = "in.example.test"
	if !m.begin(name, now) {
		t.Fatal("the name is not asked for")
	}
	if m.begin(name, now) {
		t.Error("the name is asked for twice at once")
	}
	m.end(name, hosts, nil, now)
	if m.begin(name, now.Add(mxFor-time.Second)) {
		t.Error("the name is asked for again at once")
	}
}

// TestMXErrors: without an answer of the DNS the last one stays, and the next
// message asks again.
func TestMXErrors(t *testing.T) {
	t.Parallel()
	var m mailHosts
	now := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	learn(t, &m, now, "192.0.2.1")
	now = now.Add(mxFor)
	m.begin("in.example.test", now)
	m.end("in.example.test", nil, errors.New("server misbehaving"), now)
	if got := m.behind("192.0.2.1"); len(got) != 1 {
		t.Errorf("after an error: %q", got)
	}
	if !m.begin("in.example.test", now) {
		t.Error("after an error the name is not asked for again")
	}
	for i := range 2 * maxAsking {
		m.begin(strconv.Itoa(i)+".test", now)
	}
	if m.asking != maxAsking {
		t.Errorf("%d lookups at once", m.asking)
	}
}
