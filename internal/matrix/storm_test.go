package matrix

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"understudy/internal/directory"
	"understudy/internal/stack"
)

// What the storms are made of: more messages than the detector wants (6).
const stormMessages = 10

// TestRefusedByEverybody: primaries whose probes are well refuse all mail
// without a reason. Nothing bounces: the mail waits, the worker switches, and
// the portal has it. Then policyd goes in the middle of attempts.
func TestRefusedByEverybody(t *testing.T) {
	gates := map[string]*gate{"full.test": gateAt("done"), "later.test": gateAt("done"), "bare.test": gateAt("done")}
	scripts := map[string]struct {
		at string // results name a host alone: each primary is one of its own
		script
	}{
		"s554.test":    {"127.0.0.5:0", at("done", "554 Transaction failed")},
		"s552.test":    {"127.0.0.6:0", at("done", "552 Requested action aborted")},
		"healthy.test": {"127.0.0.7:0", script{}},
		"full.test":    {"127.0.0.8:0", script{stages: at("done", "552 5.3.1 disk full").stages, gate: gates["full.test"]}},
		"later.test":   {"127.0.0.9:0", script{stages: at("done", "451 4.3.0 try later").stages, gate: gates["later.test"]}},
		"bare.test":    {"127.0.0.10:0", script{stages: at("done", "554 Transaction failed").stages, gate: gates["bare.test"]}},
	}
	w := &queuedWorld{primaries: map[string]*primary{}}
	var domains []*directory.Domain
	for name, s := range scripts {
		w.primaries[name] = listen(t, s.at, s.script)
		domains = append(domains, &directory.Domain{Name: name, Primaries: []string{w.primaries[name].addr}, Activation: directory.Automatic})
		w.boxes = append(w.boxes, "ana@"+name, "bruno@"+name)
	}
	w.world = begin(t, switching, domains, w.boxes, stack.Variables{
		"understudy_detector_recover_after": "10m", "understudy_detector_recover_max": "30m", // an emergency stays one
		"postfix_primary_data_done_timeout": "60s", // policyd is stopped meanwhile
	})
	t.Run("switches", w.stormSwitches)
	t.Run("policyd goes", func(t *testing.T) { w.policydGoes(t, gates) })
}

func (w *queuedWorld) stormSwitches(t *testing.T) {
	storms := []string{"s552.test", "s554.test"}
	want := map[string]int{}
	for _, domain := range storms { // first: in an emergency nobody vouches for dora
		w.mail(t, "for dora", "dora@"+domain)
	}
	for _, domain := range storms {
		to := func(i int) []string { return []string{[]string{"ana@", "bruno@"}[i%2] + domain} }
		w.sendMany(t, domain, stormMessages, to)
		for i := range stormMessages {
			want[fmt.Sprintf("%s-%d %s", domain, i, to(i)[0])] = 1
		}
	}
	w.mail(t, "healthy", "ana@healthy.test")
	for _, domain := range storms {
		until(t, domain+" in emergency", func() bool { return strings.Contains(w.modes(t), domain+": emergency") })
	}
	var have map[string]int
	until(t, "all in the portal", func() bool {
		have = w.inPortal(t)
		return len(have) >= len(want)
	})
	w.same(t, want, have)
	until(t, "dora's wait for the primaries", func() bool {
		first, active := w.queue.look(w.stack.Info.PostfixConfig, "dora@s552.test", 0)
		second, _ := w.queue.look(w.stack.Info.PostfixConfig, "dora@s554.test", time.Second)
		return first != "" && second != "" && active == 0
	})
	if text := w.modes(t); !strings.Contains(text, "healthy.test: normal") || w.primaries["healthy.test"].copies("healthy", "ana@healthy.test") != 1 {
		t.Errorf("the healthy domain did not go on:\n%s", text)
	}
	for _, domain := range storms {
		if n := len(w.primaries[domain].all()); n > 0 {
			t.Errorf("%s: the primary has %d", domain, n)
		}
	}
	w.noBounce(t)
}

// modes is what the command line says of all domains.
func (w *queuedWorld) modes(t *testing.T) string {
	t.Helper()
	text, err := w.stack.CLI(t.Context(), "", "status")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// policydGoes while three primaries have the data of a message and have not
// answered. What they refuse for the server's sake, and what they put off, is
// in the portal when policyd is back; what they refuse without a reason
// bounces, once: nobody was there to say that it waits.
func (w *queuedWorld) policydGoes(t *testing.T, gates map[string]*gate) {
	ctx := t.Context()
	for domain, g := range gates {
		w.mail(t, "policyd "+domain, "ana@"+domain)
		select {
		case <-g.reached:
		case <-time.After(patience):
			t.Fatalf("%s has no data", domain)
		}
	}
	if err := w.stack.Stop(ctx, stack.Policyd); err != nil {
		t.Fatal(err)
	}
	for _, g := range gates {
		close(g.open)
	}
	until(t, "all deferred", func() bool {
		full, active := w.queue.look(w.stack.Info.PostfixConfig, "ana@full.test", 0)
		later, _ := w.queue.look(w.stack.Info.PostfixConfig, "ana@later.test", time.Second)
		return full != "" && later != "" && active == 0
	})
	if err := w.stack.Start(ctx, stack.Policyd); err != nil {
		t.Fatal(err)
	}
	want := map[string]int{"policyd full.test ana@full.test": 1, "policyd later.test ana@later.test": 1}
	count := func() map[string]int {
		have := map[string]int{}
		for key, n := range w.inPortal(t) {
			if strings.HasPrefix(key, "policyd ") {
				have[key] = n
			}
		}
		return have
	}
	var retry time.Time
	flush := func() { // again and again: smtpd remembers for a while that nobody answered
		if time.Now().Before(retry) {
			return
		}
		retry = time.Now().Add(2 * time.Second)
		if out, err := exec.CommandContext(ctx, "postqueue", "-c", w.stack.Info.PostfixConfig, "-f").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	until(t, "in the portal", func() bool {
		flush()
		return len(count()) >= len(want)
	})
	until(t, "the bounce", func() bool {
		flush()
		return w.bounces.count(w.stack.Info.Internet.Maildir, "s@internet.test", "ana@bare.test") > 0
	})
	w.same(t, want, count())
	for domain, n := range map[string]int{"bare.test": 1, "full.test": 0, "later.test": 0} {
		if got := w.bounces.count(w.stack.Info.Internet.Maildir, "s@internet.test", "ana@"+domain); got != n {
			t.Errorf("%s: %d bounces, want %d", domain, got, n)
		}
	}
}
