package drain

import (
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"understudy/internal/directory"
)

// looks is which mailboxes of this gateway's portal are to be asked for, and
// when. It is in memory alone: who starts asks for all.
type looks struct {
	mu      sync.Mutex
	domains map[string]map[string]look // by domain and mailbox address
}

// look is when to ask for a mailbox.
type look struct {
	at    time.Time     // not before; it is due until the portal has answered
	pause time.Duration // from that answer to the next look, and twice as long each time
	until time.Time     // none after this
}

// add asks for mailboxes at a time, and again after growing pauses until
// another. What they already had to come is not lost.
func (l *looks) add(domain string, mailboxes []string, n look) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.domains == nil {
		l.domains = map[string]map[string]look{}
	}
	boxes := l.domains[domain]
	if boxes == nil {
		boxes = make(map[string]look, len(mailboxes))
		l.domains[domain] = boxes
	}
	for _, m := range mailboxes {
		next, old := n, boxes[m]
		if !old.at.IsZero() && old.at.Before(next.at) {
			next.at = old.at
		}
		if old.until.After(next.until) {
			next.until = old.until
			if next.pause == 0 || old.pause < next.pause {
				next.pause = old.pause
			}
		}
		boxes[m] = next
	}
}

// due returns the mailboxes of a domain that are to be asked for now, in
// random order: one that always fails must not always be first.
func (l *looks) due(domain string, now time.Time) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for m, n := range l.domains[domain] {
		if !n.at.After(now) {
			out = append(out, m)
		}
	}
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// isDue is whether due would return any.
func (l *looks) isDue(domain string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.domains[domain] {
		if !n.at.After(now) {
			return true
		}
	}
	return false
}

// done notes that the portal was asked for a mailbox at a time, and nothing of
// it is left to do.
func (l *looks) done(domain, mailbox string, asked time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	boxes := l.domains[domain]
	n, ok := boxes[mailbox]
	if !ok || n.at.After(asked) {
		return
	}
	next := asked.Add(n.pause)
	if n.pause <= 0 || next.After(n.until) {
		delete(boxes, mailbox)
		return
	}
	boxes[mailbox] = look{at: next, pause: 2 * n.pause, until: n.until}
}

// forget drops a mailbox that is registered no more.
func (l *looks) forget(domain, mailbox string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.domains[domain], mailbox)
}

// keep drops all domains but these.
func (l *looks) keep(domains map[string]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.domains, func(name string, boxes map[string]look) bool { return !domains[name] || len(boxes) == 0 })
}

// lookAtAll has all mailboxes of domains asked for. The directory is walked
// once: at a start these are all that there are.
func (w *Worker) lookAtAll(domains map[*directory.Domain]look) {
	if len(domains) == 0 {
		return
	}
	var ids []int64
	for d := range domains {
		ids = append(ids, d.ID)
	}
	boxes := map[int64][]string{}
	for _, m := range w.Directory.Mailboxes(ids...) {
		boxes[m.DomainID] = append(boxes[m.DomainID], m.Address)
	}
	for d, n := range domains {
		w.looks.add(d.Name, boxes[d.ID], n)
	}
}
