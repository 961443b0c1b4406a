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

// maxMissed bounds the messages that a round flushes one by one.
const maxMissed = 300

// count is what the queue holds for a domain.
type count struct {
	deferred int      // recipients in the deferred queue
	active   int      // in the incoming and active queues
	ids      []string // of deferred messages, at most maxMissed
}

// queued asks "postqueue -j" what is queued for a domain.
func (w *Rerouter) queued(ctx context.Context, domain string) (count, error) {
	cmd, cancel := w.postqueue(ctx, "-j")
	defer cancel()
	var stderr bytes.Buffer
	cmd.Stderr = &limited{b: &stderr, left: 4 << 10}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return count{}, fmt.Errorf("postqueue -j: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return count{}, fmt.Errorf("postqueue -j: %w", err)
	}
	c, readErr := countQueue(out, domain)
	io.Copy(io.Discard, out) //nolint:errcheck // after an error; else there is nothing more
	if err := cmd.Wait(); err != nil {
		return count{}, fmt.Errorf("postqueue -j: %w: %s", err, firstLine(stderr.Bytes()))
	}
	if readErr != nil {
		return count{}, fmt.Errorf("postqueue -j: %w", readErr)
	}
	return c, nil
}

func (w *Rerouter) postqueue(ctx context.Context, args ...string) (*exec.Cmd, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
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
func countQueue(r io.Reader, domain string) (count, error) {
	var c count
	t := tokens{d: json.NewDecoder(r)}
	for {
		m, err := t.message(domain)
		switch {
		case errors.Is(err, io.EOF):
			return c, nil
		case err != nil:
			return count{}, fmt.Errorf("read the list of the queue: %w", err)
		}
		switch m.queue {
		case "deferred":
			c.deferred += m.recipients
			if m.recipients > 0 && len(c.ids) < maxMissed && isQueueID(m.id) {
				c.ids = append(c.ids, m.id)
			}
		case "active", "incoming":
			c.active += m.recipients
		}
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
	recipients int // in the domain
}

func inDomain(recipient, domain string) bool {
	at := strings.LastIndexByte(recipient, '@')
	if at < 0 || strings.EqualFold(recipient[at+1:], domain) { // the usual cases, without the work
		return at >= 0
	}
	d, err := address.Domain(recipient[at+1:])
	return err == nil && d == domain
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
