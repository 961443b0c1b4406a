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
func (w *Worker) flush(ctx context.Context, domain string) error {
	cmd, cancel := w.postqueue(ctx, "-s", domain)
	defer cancel()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("postqueue -s %s: %w: %s", domain, err, firstLine(out))
	}
	return nil
}

// queued counts the recipients of a domain in the deferred queue and in the
// incoming and active queues, by "postqueue -j".
func (w *Worker) queued(ctx context.Context, domain string) (deferred, active int, err error) {
	cmd, cancel := w.postqueue(ctx, "-j")
	defer cancel()
	var stderr bytes.Buffer
	cmd.Stderr = &limited{b: &stderr, left: 4 << 10}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, 0, fmt.Errorf("postqueue -j: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return 0, 0, fmt.Errorf("postqueue -j: %w", err)
	}
	deferred, active, readErr := countQueue(out, domain)
	io.Copy(io.Discard, out) //nolint:errcheck // after an error; else there is nothing more
	if err := cmd.Wait(); err != nil {
		return 0, 0, fmt.Errorf("postqueue -j: %w: %s", err, firstLine(stderr.Bytes()))
	}
	if readErr != nil {
		return 0, 0, fmt.Errorf("postqueue -j: %w", readErr)
	}
	return deferred, active, nil
}

func (w *Worker) postqueue(ctx context.Context, args ...string) (*exec.Cmd, context.CancelFunc) {
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
//	{"queue_name": "deferred", ..., "recipients": [{"address": "a@b", "delay_reason": ".."}]}
func countQueue(r io.Reader, domain string) (deferred, active int, err error) {
	t := tokens{d: json.NewDecoder(r)}
	for {
		queue, n, err := t.message(domain)
		switch {
		case errors.Is(err, io.EOF):
			return deferred, active, nil
		case err != nil:
			return 0, 0, fmt.Errorf("read the list of the queue: %w", err)
		}
		switch queue {
		case "deferred":
			deferred += n
		case "active", "incoming":
			active += n
		}
	}
}

// tokens reads JSON without holding more than a token.
type tokens struct{ d *json.Decoder }

// message reads one object; io.EOF when there is none.
func (t tokens) message(domain string) (queue string, n int, err error) {
	first, err := t.d.Token()
	if err != nil {
		return "", 0, err
	}
	if first != json.Delim('{') {
		return "", 0, fmt.Errorf("want an object, got %.40v", first)
	}
	err = t.object(func(key string) error {
		switch key {
		case "queue_name":
			return t.text(&queue)
		case "recipients":
			return t.recipients(domain, &n)
		default:
			return t.skip()
		}
	})
	return queue, n, err
}

func (t tokens) recipients(domain string, n *int) error {
	if first, err := t.d.Token(); err != nil || first != json.Delim('[') {
		return errors.Join(err, errors.New("want a list of recipients"))
	}
	for t.d.More() {
		if first, err := t.d.Token(); err != nil || first != json.Delim('{') {
			return errors.Join(err, errors.New("want a recipient"))
		}
		err := t.object(func(key string) error {
			if key != "address" {
				return t.skip()
			}
			var a string
			if err := t.text(&a); err != nil {
				return err
			}
			if inDomain(a, domain) {
				*n++
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return t.end()
}

// object calls value for each key up to the closing brace.
func (t tokens) object(value func(key string) error) error {
	for t.d.More() {
		var key string
		if err := t.text(&key); err != nil {
			return err
		}
		if err := value(key); err != nil {
			return unexpected(err)
		}
	}
	return t.end()
}

func (t tokens) text(s *string) error {
	v, err := t.d.Token()
	if err != nil {
		return unexpected(err)
	}
	text, ok := v.(string)
	if !ok {
		return fmt.Errorf("want a string, got %.40v", v)
	}
	*s = text
	return nil
}

// skip passes over one value.
func (t tokens) skip() error {
	for depth := 0; ; {
		v, err := t.d.Token()
		if err != nil {
			return unexpected(err)
		}
		if d, ok := v.(json.Delim); ok {
			if d == '{' || d == '[' {
				depth++
			} else {
				depth--
			}
		}
		if depth <= 0 {
			return nil
		}
	}
}

// end takes the closing brace or bracket.
func (t tokens) end() error {
	_, err := t.d.Token()
	return unexpected(err)
}

// unexpected makes an end within a message an error.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
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
