package reroute

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"time"

	"understudy/internal/address"
)

// flush runs "postqueue -s DOMAIN": schedule the delivery of all mail that is
// deferred for the domain (flush(8); the domain must be one of
// fast_flush_domains, by default $relay_domains).
func (w *Rerouter) flush(ctx context.Context, domain string) error {
	w.metrics.flushes.Inc()
	cmd, cancel := w.postqueue(ctx, "-s", domain)
	defer cancel()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("postqueue -s %s: %w: %s", domain, err, firstLine(out))
	}
	return nil
}

// flushOne runs "postqueue -i ID": schedule the delivery of one message.
func (w *Rerouter) flushOne(ctx context.Context, id string) error {
	cmd, cancel := w.postqueue(ctx, "-i", id)
	defer cancel()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("postqueue -i %s: %w: %s", id, err, firstLine(out))
	}
	return nil
}

const (
	maxMissed    = 300  // messages of a domain that a round flushes one by one
	maxMissedAll = 1000 // of all domains that share a listing
)

// count is what the queue holds for a domain.
type count struct {
	deferred int      // recipients in the deferred queue
	active   int      // in the incoming and active queues
	ids      []string // of deferred messages, at most maxMissed
}

// queued asks "postqueue -j" what is queued for domains.
func (w *Rerouter) queued(ctx context.Context, domains []string) (map[string]*count, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	cmd, done := w.postqueue(ctx, "-j")
	defer done()
	var stderr bytes.Buffer
	cmd.Stderr = &limited{b: &stderr, left: 4 << 10}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("postqueue -j: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("postqueue -j: %w", err)
	}
	counts, readErr := countQueue(out, domains)
	io.Copy(io.Discard, out) //nolint:errcheck // after an error; else there is nothing more
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("postqueue -j: %w: %s", err, firstLine(stderr.Bytes()))
	}
	if readErr != nil {
		return nil, fmt.Errorf("postqueue -j: %w", readErr)
	}
	return counts, nil
}

// postqueue is the command with a deadline.
func (w *Rerouter) postqueue(ctx context.Context, args ...string) (*exec.Cmd, context.CancelFunc) {
	cancel := func() {}
	if _, ok := ctx.Deadline(); !ok {
		ctx, cancel = context.WithTimeout(ctx, commandTimeout)
	}
	all := slices.Concat(w.Postqueue, args)
	cmd := exec.CommandContext(ctx, all[0], all[1:]...)
	cmd.WaitDelay = time.Second
	return cmd, cancel
}

// countQueue reads the objects of "postqueue -j", one for each message,
// token by token: a message may have any number of recipients, and the queue
// any number of messages.
//
//	{"queue_name": "deferred", "queue_id": "4Q", ..., "recipients": [{"address": "a@b", "delay_reason": ".."}]}
func countQueue(r io.Reader, domains []string) (map[string]*count, error) {
	counts := make(map[string]*count, len(domains))
	for _, d := range domains {
		counts[d] = &count{}
	}
	keep := max(1, min(maxMissed, maxMissedAll/max(1, len(counts))))
	t := tokens{d: json.NewDecoder(r), counts: counts}
	for {
		m, err := t.message()
		switch {
		case errors.Is(err, io.EOF):
			return counts, nil
		case err != nil:
			return nil, fmt.Errorf("read the list of the queue: %w", err)
		}
		for d, n := range m.recipients {
			counts[d].add(&m, n, keep)
		}
	}
}

// add counts n recipients of a message.
func (c *count) add(m *message, n, keep int) {
	switch m.queue {
	case "deferred":
		c.deferred += n
		if len(c.ids) < keep && isQueueID(m.id) {
			c.ids = append(c.ids, m.id)
		}
	case "active", "incoming":
		c.active += n
	}
}

// isQueueID tells whether text is safe as an argument of a command.
func isQueueID(s string) bool {
	return s != "" && len(s) < 64 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	})
}

// message is one object of the list.
type message struct {
	queue, id  string
	recipients map[string]int // by those domains that are asked for
}

// domainOf returns which of the domains that are counted a recipient is in.
func (t tokens) domainOf(recipient string) (string, bool) {
	at := strings.LastIndexByte(recipient, '@')
	if at < 0 {
		return "", false
	}
	d := recipient[at+1:]
	if t.counts[d] != nil { // the usual case, without the work
		return d, true
	}
	d, err := address.Domain(d)
	return d, err == nil && t.counts[d] != nil
}

func firstLine(b []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	return strings.ToValidUTF8(line[:min(len(line), 200)], "")
}

// limited keeps the first bytes and drops the rest.
type limited struct {
	b    *bytes.Buffer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.left -= n
	l.b.Write(p[:n])
	return len(p), nil
}
