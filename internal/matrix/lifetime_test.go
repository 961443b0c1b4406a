package matrix

import (
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"understudy/internal/delivery"
	"understudy/internal/directory"
	"understudy/internal/evidence"
	"understudy/internal/stack"
)

// Five days, here.
const lifetime = 10 * time.Second

// TestQueueLifetime: who gets a bounce when the queue's lifetime ends, and who
// does not. There is no worker, so that nobody switches a mode. It begins with
// what is a sign of a failed primary and what is none.
func TestQueueLifetime(t *testing.T) {
	held := gateAt("done")
	scripts := map[string]script{
		"slow.test":   at("rcpt", hang),
		"manual.test": later("mail", "451 4.3.0 try later"),
		"auto.test":   later("mail", "451 4.3.0 try later"),
		"bare.test":   at("done", "554 Transaction failed"),
		"healed.test": {stages: at("done", "451 4.3.0 try later").stages, gate: held},
		"works.test":  {},
	}
	w := &queuedWorld{primaries: map[string]*primary{}}
	var domains []*directory.Domain
	for i, name := range []string{"slow.test", "manual.test", "auto.test", "bare.test", "healed.test", "works.test"} {
		w.primaries[name] = listen(t, net.JoinHostPort(net.IPv4(127, 0, 0, byte(5+i)).String(), "0"), scripts[name])
		d := &directory.Domain{Name: name, Primaries: []string{w.primaries[name].addr}, Activation: directory.Automatic}
		if name == "manual.test" || name == "healed.test" {
			d.Activation = directory.Manual
		}
		domains = append(domains, d)
		w.boxes = append(w.boxes, "ana@"+name)
	}
	w.world = begin(t, still, domains, w.boxes, stack.Variables{
		"postfix_maximal_queue_lifetime": seconds(lifetime), "postfix_bounce_queue_lifetime": seconds(lifetime),
		"postfix_minimal_backoff_time": "2s", "postfix_maximal_backoff_time": "2s", "postfix_queue_run_delay": "2s",
		"postfix_primary_data_done_timeout": "60s", // policyd is stopped meanwhile
	})
	t.Run("signs of a failed primary", w.signs)
	t.Run("the primary is down", w.expiresForPrimary)
	t.Run("the portal is down", w.expiresForPortal)
	t.Run("policyd is down", func(t *testing.T) { w.expiresWithoutPolicyd(t, held) })
}

// signs: address verification and what the worker brings are none, although
// they come in by re-entry; a message that fell back is one.
func (w *queuedWorld) signs(t *testing.T) {
	const ana = "ana@slow.test"
	signs := func() (n int) {
		t.Helper()
		events, err := evidence.NewClient(filepath.Join(w.stack.Dir(), "state", "control", "policyd")).Poll(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if e.Domain == "slow.test" {
				n++
			}
		}
		return n
	}
	c, err := smtp.Dial(w.stack.Info.SMTP)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Mail("s@internet.test", nil); err != nil {
		t.Fatal(err)
	}
	if err := c.Rcpt(ana, nil); err != nil {
		t.Fatalf("nobody vouches for ana: %v", err)
	}
	if n := signs(); n > 0 {
		t.Errorf("address verification: %d signs", n)
	}
	way := net.JoinHostPort("127.0.0.1", w.reentryPort(t))
	sent := (&delivery.Client{Helo: "worker.test"}).Deliver(t.Context(), []string{way}, delivery.Message{Recipients: []string{ana}, Body: strings.NewReader("Subject: again\r\n\r\n")})
	if err := sent[0].Err; err != nil {
		t.Fatal(err)
	}
	w.arrives(t, ana, "again", time.Now())
	if n := signs(); n > 0 {
		t.Errorf("redelivery: %d signs", n)
	}
	w.mail(t, "fell back", ana)
	w.arrives(t, ana, "fell back", time.Now())
	if n := signs(); n != 1 {
		t.Errorf("a message that fell back: %d signs, want 1", n)
	}
}

// gone waits until nothing is queued and the bounces to a sender are there,
// and wants no others.
func (w *queuedWorld) gone(t *testing.T, from string, want ...string) {
	t.Helper()
	until(t, "an empty queue", func() bool {
		all, err := listQueue(w.stack.Info.PostfixConfig)
		return err == nil && len(all) == 0
	})
	until(t, "bounces", func() bool { return len(w.bouncesTo(t, from)) >= len(want) })
	if got := w.bouncesTo(t, from); !slices.Equal(got, want) {
		t.Errorf("bounces for %q, want %q", got, want)
	}
}

// bouncesTo are the recipients that a sender was told of, sorted.
func (w *queuedWorld) bouncesTo(t *testing.T, from string) (out []string) {
	t.Helper()
	w.bounces.count(w.stack.Info.Internet.Maildir, "", "")
	for key, n := range w.bounces.got {
		sender, recipient, _ := strings.Cut(key, " ")
		if !strings.HasSuffix(sender, "@internet.test") {
			t.Errorf("a bounce to %q", sender)
		}
		if sender == from && strings.Contains(recipient, "@") {
			out = append(out, slices.Repeat([]string{recipient}, n)...)
		}
	}
	slices.Sort(out)
	return out
}

// message sends as mail does, from another sender.
func (w *queuedWorld) message(t *testing.T, from, token string, to ...string) {
	t.Helper()
	if no, _, err := w.send(from, to, token, 0); err != nil || len(no) > 0 {
		t.Fatalf("%v, %v", no, err)
	}
}

func (w *queuedWorld) expiresForPrimary(t *testing.T) {
	const from = "primary@internet.test"
	w.message(t, from, "expires", "ana@manual.test")
	w.message(t, from, "expires", "ana@auto.test", "dora@auto.test")
	w.message(t, from, "expires", "ana@bare.test")
	w.message(t, from, "arrives", "ana@works.test")
	w.message(t, "", "is dropped", "ana@manual.test")
	w.gone(t, from, "ana@bare.test", "ana@manual.test", "dora@auto.test")
	have := w.inPortal(t)
	if have["expires ana@auto.test"] != 1 || w.primaries["works.test"].copies("arrives", "ana@works.test") != 1 {
		t.Errorf("ana's mail is not where it should be: %v", have)
	}
}

func (w *queuedWorld) expiresForPortal(t *testing.T) {
	const from = "portal@internet.test"
	if err := w.stack.Stop(t.Context(), stack.Dovecot); err != nil {
		t.Fatal(err)
	}
	w.message(t, from, "for the portal", "ana@auto.test")
	w.gone(t, from, "ana@auto.test")
	if err := w.stack.Start(t.Context(), stack.Dovecot); err != nil {
		t.Fatal(err)
	}
}

// expiresWithoutPolicyd: the primary is well again, but nobody says where it
// is. policyd goes in the middle of an attempt, after qmgr has resolved
// another address: it remembers the last one.
func (w *queuedWorld) expiresWithoutPolicyd(t *testing.T, held *gate) {
	const from, ana = "policyd@internet.test", "ana@healed.test"
	w.message(t, from, "unresolved", ana)
	select {
	case <-held.reached:
	case <-time.After(patience):
		t.Fatal("the primary has no data")
	}
	w.message(t, from, "another", "ana@works.test")
	until(t, "another", func() bool { return w.primaries["works.test"].copies("another", "ana@works.test") == 1 })
	if err := w.stack.Stop(t.Context(), stack.Policyd); err != nil {
		t.Fatal(err)
	}
	w.primaries["healed.test"].heal()
	close(held.open)
	until(t, "expired", func() bool { // its bounce has to wait
		why, _ := w.queue.look(w.stack.Info.PostfixConfig, from, 0)
		return why != ""
	})
	if err := w.stack.Start(t.Context(), stack.Policyd); err != nil {
		t.Fatal(err)
	}
	w.message(t, from, "one more", "ana@works.test") // qmgr remembers the failure, too; and a bounce expires as soon
	w.gone(t, from, ana)
	if n := w.primaries["healed.test"].copies("unresolved", ana); n > 0 {
		t.Errorf("the primary has it %d times", n)
	}
}
