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
)

const (
	queueTimeout = 20 * time.Second
	queueFor     = 5 * time.Second // how long one listing serves all domains
)

// Queue counts the mail that waits in Postfix's queue because a primary
// refused it and the refusal was softened.
type Queue struct {
	Command []string // postqueue(1) with its first arguments

	mu      sync.Mutex
	at      time.Time
	waiting map[string]int // recipients, by domain
}

// Waiting returns for how many recipients of a domain mail waits so.
func (q *Queue) Waiting(ctx context.Context, domain string) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting == nil || time.Since(q.at) > queueFor {
		waiting, err := q.list(ctx)
		if err != nil {
			return 0, err
		}
		q.waiting, q.at = waiting, time.Now()
	}
	return q.waiting[domain], nil
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
	waiting, readErr := readQueue(out)
	io.Copy(io.Discard, out) //nolint:errcheck // after an error; else there is nothing more
	if err := errors.Join(readErr, cmd.Wait()); err != nil {
		return nil, fmt.Errorf("list the queue: %w", err)
	}
	return waiting, nil
}

// readQueue reads the objects of "postqueue -j", one for each message. The
// reason keeps the server's own reply: "host mx1[192.0.2.1] said: 554 ...".
func readQueue(r io.Reader) (map[string]int, error) {
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
			if a, err := address.Parse(x.Address); err == nil && strings.HasPrefix(x.Reason, "host ") && strings.Contains(x.Reason, "] said: 5") {
				waiting[a.Domain]++
			}
		}
	}
}
