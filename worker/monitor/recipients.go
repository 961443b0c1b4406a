package monitor

import (
	"math/rand/v2"
	"strings"
	"time"
	"unicode"

	"understudy/internal/address"
	"understudy/internal/directory"
)

const (
	recipientsKept = 8
	askAtOnce      = 3
	sampleFor      = 30 * time.Minute
)

// wanted are the recipients that a probe is to name: those whose mail has
// just failed, or some that are registered. Nobody is named while all is
// well: a server may take offence at being asked again and again.
func (w *watcher) wanted(d *directory.Domain) []string {
	if !w.state.Storm.Fresh(time.Now()) && !w.state.Hidden {
		return nil
	}
	w.mu.Lock()
	out := w.recipients.some()
	w.mu.Unlock()
	if len(out) < 2 {
		if time.Since(w.sampledAt) > sampleFor {
			w.sampledAt, w.sample = time.Now(), nil
			boxes := w.Directory.Mailboxes(d.ID)
			rand.Shuffle(len(boxes), func(i, j int) { boxes[i], boxes[j] = boxes[j], boxes[i] })
			for _, m := range boxes {
				if w.sample.add(m.Address); len(w.sample) == recipientsKept {
					break
				}
			}
		}
		out = append(out, w.sample.some()...)
	}
	return out[:min(len(out), askAtOnce)]
}

// registered returns an address in its one form if it is one of ours.
func (t *term) registered(s string) (string, bool) {
	a, err := address.Parse(s)
	if err != nil {
		return "", false
	}
	r := t.Directory.Recipient(a)
	return a.String(), r.Registered
}

// recent holds the newest different addresses.
type recent []string

// add takes an address that a plain MAIL may be followed by: others need
// SMTPUTF8 (RFC 6531 section 3.4), and their refusal would tell nothing.
func (r *recent) add(s string) {
	if !isASCII(s) {
		return
	}
	for i, have := range *r {
		if have == s {
			*r = append((*r)[:i], (*r)[i+1:]...)
			break
		}
	}
	if *r = append(*r, s); len(*r) > recipientsKept {
		*r = (*r)[1:]
	}
}

// some returns a few of them, not always the same.
func (r recent) some() []string {
	out := make([]string, 0, askAtOnce)
	for _, i := range rand.Perm(len(r))[:min(len(r), askAtOnce)] {
		out = append(out, r[i])
	}
	return out
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII })
}
