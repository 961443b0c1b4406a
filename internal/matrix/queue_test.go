package matrix

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// waiting is a recipient of a message in Postfix's queue.
type waiting struct {
	queue, address, reason string
}

// listQueue asks postqueue(1).
func listQueue(config string) ([]waiting, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "postqueue", "-c", config, "-j").Output()
	if err != nil {
		return nil, fmt.Errorf("list the queue: %w", err)
	}
	var all []waiting
	for line := range strings.Lines(string(out)) {
		var m struct {
			Queue      string `json:"queue_name"`
			Recipients []struct {
				Address string `json:"address"`
				Delay   string `json:"delay_reason"`
			} `json:"recipients"`
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			return nil, fmt.Errorf("list the queue: %w", err)
		}
		for _, r := range m.Recipients {
			all = append(all, waiting{m.Queue, r.Address, r.Delay})
		}
	}
	return all, nil
}

// queue is a recent look at Postfix's queue.
type queue struct {
	mu       sync.Mutex
	at       time.Time
	deferred map[string]string // reason by recipient
	active   int
}

// look returns why a recipient's message waits, "" if none does, and how many
// are on their way. It is at most as old as said.
func (q *queue) look(config, recipient string, age time.Duration) (reason string, active int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if time.Since(q.at) < age {
		return q.deferred[recipient], q.active
	}
	all, err := listQueue(config)
	if err != nil {
		return "", 1
	}
	q.deferred, q.active, q.at = map[string]string{}, 0, time.Now()
	for _, m := range all {
		if m.queue == "deferred" {
			q.deferred[m.address] = m.reason
		} else {
			q.active++
		}
	}
	return q.deferred[recipient], q.active
}
