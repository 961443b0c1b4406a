package matrix

import (
	"slices"
	"testing"
	"time"

	"understudy/internal/directory"
	"understudy/internal/nexthop"
	"understudy/internal/stack"
)

const (
	atOnce = 14 // rows, so that a small machine measures the product and not itself; all that wait are among the first
	// perOctet is what a large message may take to be sent a second time.
	perOctet = time.Second / (2 << 20)
	slack    = 8 * time.Second // what a fallback may take beyond the timeout that made it: not as long as one more
)

// result is what was seen of a row.
type result struct {
	outcome map[string]outcome
	took    time.Duration // from acceptance to the last recipient's outcome
	err     error
}

// TestFailureMatrix plays every row and compares with what it wants, and
// with the table in docs/failures.md.
func TestFailureMatrix(t *testing.T) {
	ca := newAuthority(t)
	zone := zone{
		"host.dns.test":     {a: [4]byte{127, 0, 0, 5}},
		"gateway.dns.test":  {a: [4]byte{127, 0, 0, 1}},
		"good.dns.test":     {mx: []string{"host.dns.test"}},
		"second.dns.test":   {mx: []string{"none.dns.test", "host.dns.test"}},
		"none.dns.test":     {a: [4]byte{127, 0, 0, 6}},
		"refused.dns.test":  {mx: []string{"none.dns.test", "host.dns.test"}},
		"nohost.dns.test":   {mx: []string{"gone.dns.test"}},
		"null.dns.test":     {mx: []string{"."}},
		"loop.dns.test":     {mx: []string{"gateway.dns.test"}},
		"servfail.dns.test": {servfail: true},
		"silent.dns.test":   {silent: true},
	}
	resolve(t, dns, zone)
	ways := &ways{zone}
	var domains []*directory.Domain
	var boxes []string
	policies := []any{}
	for i := range rows {
		r := &rows[i]
		var primaries []string
		if r.primaries != nil {
			primaries = r.primaries(t, ways, r)
		} else {
			r.primary = listen(t, "127.0.0.1:0", r.script)
			primaries = []string{r.primary.addr}
		}
		domains = append(domains, &directory.Domain{Name: r.domain(), Primaries: primaries, Activation: directory.Automatic})
		for local := range r.want {
			if local != "dora" {
				boxes = append(boxes, local+"@"+r.domain())
			}
		}
		if r.policy != "" {
			hop, err := nexthop.Parse(primaries[0])
			if err != nil {
				t.Fatal(err)
			}
			policies = append(policies, map[string]any{"next_hop": hop.Postfix(), "policy": r.policy})
		}
	}
	domains = append(domains, &directory.Domain{Name: "removed.test", Primaries: []string{"127.0.0.1:1"}, Activation: directory.Automatic})
	boxes = append(boxes, removed)
	t.Run("hosts behind a name", findHosts)
	w := begin(t, still, domains, boxes, stack.Variables{"postfix_primary_tls_policies": policies, "postfix_tls_ca_file": ca})
	results := play(t, w)
	settle(t, w)
	busy := busyness(results)
	for i := range rows {
		t.Run(rows[i].id, func(t *testing.T) { w.judge(t, &rows[i], results[i], busy) })
	}
	t.Run("refused in the session", w.refusesInSession)
	t.Run("strangers at re-entry", w.strangersAtReentry)
	t.Run("the portal refuses for good", w.portalRefuses)
	document(t, results)
}

// settle waits until nothing is on its way any more.
func settle(t *testing.T, w *world) {
	until(t, "an idle queue", func() bool {
		_, active := w.queue.look(w.stack.Info.PostfixConfig, "", 0)
		return active == 0
	})
}

// busyness is what the machine itself adds to a row: twice the median of all
// rows in which no timeout passes. On a quiet machine it is 0.2 s.
func busyness(results []result) time.Duration {
	var quick []time.Duration
	for i, r := range rows {
		if r.wait == 0 {
			quick = append(quick, results[i].took)
		}
	}
	slices.Sort(quick)
	return 2 * quick[len(quick)/2]
}

// judge compares a row with what it wants: outcomes, seconds, and at the end
// each message in exactly one place.
func (w *world) judge(t *testing.T, r *row, res result, busy time.Duration) {
	if res.err != nil {
		t.Fatal(res.err)
	}
	for local, want := range r.want {
		if res.outcome[local] != want {
			t.Errorf("%s: %s, want %s", local, res.outcome[local], want)
		}
		w.once(t, r, local, want)
	}
	if limit := r.wait + slack + busy + time.Duration(r.octets)*perOctet; res.took > limit {
		t.Errorf("took %s, want at most %s", res.took.Round(time.Millisecond), limit)
	}
	if r.primary != nil && r.primary.encrypted(r.id) != r.encrypted {
		t.Errorf("the primary got it encrypted: %v, want %v", !r.encrypted, r.encrypted)
	}
}

// once counts the copies of a message in all places.
func (w *world) once(t *testing.T, r *row, local string, want outcome) {
	t.Helper()
	address := local + "@" + r.domain()
	have := map[outcome]int{}
	if local != "dora" {
		b, err := w.portal.inbox(address)
		if err != nil {
			t.Fatal(err)
		}
		defer b.close()
		if have[portalHas], err = b.copies(r.id); err != nil {
			t.Fatal(err)
		}
	}
	if r.primary != nil {
		have[primaryHas] = r.primary.copies(r.id, address)
	}
	have[bounced] = w.bounces.count(w.stack.Info.Internet.Maildir, r.sender(), address)
	if reason, _ := w.queue.look(w.stack.Info.PostfixConfig, address, 300*time.Millisecond); reason != "" {
		have[queued] = 1
	}
	for _, place := range []outcome{portalHas, primaryHas, bounced, queued} {
		wanted := 0
		if place == want {
			wanted = 1
		}
		if r.twice && place == primaryHas {
			continue
		}
		if have[place] != wanted {
			t.Errorf("%s: %d copies in %s, want %d", local, have[place], place, wanted)
		}
	}
}
