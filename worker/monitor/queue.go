package monitor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"

	"understudy/internal/address"
	"understudy/internal/directory"
)

const (
	queueTimeout = 20 * time.Second
	queueFor     = 5 * time.Second // how long one listing serves all domains
	queueOld     = time.Minute     // and while the next is under way
)

// Queue counts the mail that waits in Postfix's queue because a primary
// refused it and the refusal was softened.
//
// One listing serves all domains for a while, also one that failed. Whoever
// asks while another lists is told what was known before: probes go on.
type Queue struct {
	Command   []string             // postqueue(1) with its first arguments
	Directory *directory.Directory // tells which recipients are covered

	mu      sync.Mutex
	listing bool      // somebody does
	at      time.Time // of the newest listing's end
	waiting map[string]int
	err     error // of the newest listing
}

// Waiting returns for how many covered recipients of a domain mail waits so; 0
// is also not known yet.
func (q *Queue) Waiting(ctx context.Context, domain string) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.listing && time.Since(q.at) > queueFor {
		q.listing = true
		q.mu.Unlock()
		waiting, err := q.list(ctx)
		q.mu.Lock()
		q.listing = false
		if ctx.Err() != nil { // cut short: says nothing
			return 0, ctx.Err()
		}
		q.waiting, q.err, q.at = waiting, err, time.Now()
	}
	if time.Since(q.at) > queueOld {
		return 0, nil
	}
	return q.waiting[domain], q.err
}

func (q *Queue) list(ctx context.Context) (map[string]int, error) {
	ctx, cancel := context.WithTimeout(ctx, queueTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, q.Command[0], append(q.Command[1:len(q.Command):len(q.Command)], "-j")...)
	cmd.WaitDelay = time.Second
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("list the queue: %w", err)
	}
	waiting, readErr := readQueue(out, q.covered)
	io.Copy(io.Discard, out) //nolint:errcheck // after an error; else there is nothing more
	if err := errors.Join(readErr, cmd.Wait()); err != nil {
		return nil, fmt.Errorf("list the queue: %w", err)
	}
	return waiting, nil
}

// covered reports whether mail for an address is archived, so that it can be
// compared with what was taken.
func (q *Queue) covered(a address.Address) bool { return q.Directory.Recipient(a).Covered }

// readQueue reads the objects of "postqueue -j", one for each message. The
// reason keeps the server's own reply: "host mx1[192.0.2.1] said: 554 ...".
func readQueue(r io.Reader, covered func(address.Address) bool) (map[string]int, error) {
	waiting := map[string]int{}
	for d := json.NewDecoder(r); ; {
		var message struct {
			Recipients []struct {
				Address string `json:"address"`
				Reason  string `json:"delay_reason"`
			} `json:"recipients"`
		}
		if err := d.Decode(&message); errors.Is(err, io.EOF) {
			return waiting, nil
		} else if err != nil {
			return nil, err
		}
		for _, x := range message.Recipients {
			if !strings.HasPrefix(x.Reason, "host ") || !strings.Contains(x.Reason, "] said: 5") {
				continue
			}
			if a, err := address.Parse(x.Address); err == nil && covered(a) {
				waiting[a.Domain]++
			}
		}
	}
}
