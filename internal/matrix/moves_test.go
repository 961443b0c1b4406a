package matrix

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"understudy/internal/directory"
	"understudy/internal/stack"
)

// Queued mail follows a change of mode this fast; mail that is alone in the
// queue too, although qmgr remembers the last address it resolved.
const (
	manyLimit  = 3 * time.Minute
	aloneLimit = time.Minute
)

// queuedWorld is what TestQueuedMailMoves works with.
type queuedWorld struct {
	*world
	primaries map[string]*primary
	boxes     []string
}

// TestQueuedMailMoves: mail that is queued for a failing primary is in the
// portal soon after a person has switched, and mail that is queued for the
// portal is at the primary soon after they have switched back: all of it, once.
// Unregistered recipients' stays queued for the primary.
func TestQueuedMailMoves(t *testing.T) {
	w := &queuedWorld{primaries: map[string]*primary{}}
	var domains []*directory.Domain
	for name, s := range map[string]script{"alone.test": later("mail", "451 4.3.0 try later"), "hanging.test": later("rcpt", hang),
		"many.test": later("mail", "451 4.3.0 try later")} {
		w.primaries[name] = listen(t, "127.0.0.1:0", s)
		domains = append(domains, &directory.Domain{Name: name, Primaries: []string{w.primaries[name].addr}, Activation: directory.Manual})
	}
	for i := range 8 {
		w.boxes = append(w.boxes, fmt.Sprintf("u%d@many.test", i))
	}
	w.world = begin(t, switching, domains, append([]string{"ana@alone.test", "ana@hanging.test"}, w.boxes...), stack.Variables{})
	if !t.Run("a message alone in the queue", w.alone) || !t.Run("a message under way", w.underWay) {
		return
	}
	if t.Run("many, to the portal", w.toPortal) {
		t.Run("and back", w.toPrimary)
	}
}

// mode switches by the command line and returns the time.
func (w *queuedWorld) mode(t *testing.T, domain, mode string) time.Time {
	t.Helper()
	began := time.Now()
	if _, err := w.stack.CLI(t.Context(), "", "mode", domain, mode, "--reason", "test"); err != nil {
		t.Fatal(err)
	}
	return began
}

// deferred waits until as many recipients' messages are, and nothing is under
// way.
func (w *queuedWorld) deferred(t *testing.T, n int) {
	t.Helper()
	until(t, fmt.Sprintf("%d deferred", n), func() bool {
		all, err := listQueue(w.stack.Info.PostfixConfig)
		return err == nil && len(all) == n && !slices.ContainsFunc(all, func(m waiting) bool { return m.queue != "deferred" })
	})
}

func (w *queuedWorld) alone(t *testing.T) {
	w.mail(t, "alone", "ana@alone.test")
	w.deferred(t, 1)
	began := w.mode(t, "alone.test", "emergency")
	w.arrives(t, "ana@alone.test", "alone", began)
}

func (w *queuedWorld) underWay(t *testing.T) {
	w.mail(t, "hanging", "ana@hanging.test")
	began := w.mode(t, "hanging.test", "emergency")
	w.arrives(t, "ana@hanging.test", "hanging", began)
}

func (w *queuedWorld) mail(t *testing.T, token string, to ...string) {
	t.Helper()
	if no, _, err := w.send("s@internet.test", to, token, 0); err != nil || len(no) > 0 {
		t.Fatalf("%v, %v", no, err)
	}
}

func (w *queuedWorld) arrives(t *testing.T, mailbox, token string, began time.Time) {
	t.Helper()
	var b *inbox
	until(t, "an IMAP session", func() bool { // one that begins while LMTP makes the mailbox was once dropped
		var err error
		if b, err = w.portal.inbox(mailbox); err != nil {
			t.Log(err)
		}
		return err == nil
	})
	defer b.close()
	until(t, "in the portal", func() bool {
		n, err := b.copies(token)
		return err == nil && n == 1
	})
	took := time.Since(began)
	t.Logf("in the portal %.1f s after the switch", took.Seconds())
	if took > aloneLimit {
		t.Errorf("took %s, want at most %s", took, aloneLimit)
	}
}

// The mail of the great move: of 1,000 messages 900 are for one registered
// mailbox, 50 for one and for dora, who is not registered, 50 for dora alone.
const (
	messages = 1000
	mixed    = 50
	doras    = 50
)

func recipients(i int, boxes []string) []string {
	switch box := boxes[i%len(boxes)]; {
	case i < doras:
		return []string{"dora@many.test"}
	case i < doras+mixed:
		return []string{box, "dora@many.test"}
	default:
		return []string{box}
	}
}

func (w *queuedWorld) toPortal(t *testing.T) {
	w.sendMany(t, "first", messages, func(i int) []string { return recipients(i, w.boxes) })
	w.deferred(t, messages+mixed)
	began := w.mode(t, "many.test", "emergency")
	want := map[string]int{}
	for i := doras; i < messages; i++ {
		want[fmt.Sprintf("first-%d %s", i, recipients(i, w.boxes)[0])] = 1
	}
	var have map[string]int
	until(t, fmt.Sprintf("%d messages in the portal", len(want)), func() bool {
		have = w.inPortal(t)
		return len(have) >= len(want)
	})
	took := time.Since(began)
	t.Logf("%d messages in the portal %.1f s after the switch", len(have), took.Seconds())
	if took > manyLimit {
		t.Errorf("took %s, want at most %s", took, manyLimit)
	}
	w.same(t, want, have)
	w.deferred(t, doras+mixed)
	all, err := listQueue(w.stack.Info.PostfixConfig)
	if err != nil || slices.ContainsFunc(all, func(m waiting) bool { return m.address != "dora@many.test" }) {
		t.Errorf("others than dora wait for the primary, or %v", err)
	}
	w.noBounce(t)
}

// toPrimary: while the portal is down, more mail queues for it.
func (w *queuedWorld) toPrimary(t *testing.T) {
	const more = 100
	if err := w.stack.Stop(t.Context(), stack.Dovecot); err != nil {
		t.Fatal(err)
	}
	w.sendMany(t, "second", more, func(i int) []string { return w.boxes[i%len(w.boxes) : i%len(w.boxes)+1] })
	w.deferred(t, doras+mixed+more)
	want := map[string]int{}
	for i := range doras + mixed {
		want[fmt.Sprintf("first-%d dora@many.test", i)] = 1
	}
	for i := range more {
		want[fmt.Sprintf("second-%d %s", i, w.boxes[i%len(w.boxes)])] = 1
	}
	p := w.primaries["many.test"]
	p.heal()
	began := w.mode(t, "many.test", "normal")
	t.Cleanup(func() {
		if t.Failed() {
			w.same(t, want, p.all())
		}
	})
	until(t, "at the primary", func() bool { return len(p.all()) >= len(want) })
	took := time.Since(began)
	t.Logf("%d queued messages at the primary %.1f s after the switch back", len(want), took.Seconds())
	if took > manyLimit {
		t.Errorf("took %s, want at most %s", took, manyLimit)
	}
	w.same(t, want, p.all())
	w.deferred(t, 0)
	w.noBounce(t)
}
