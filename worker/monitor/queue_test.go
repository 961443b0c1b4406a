package monitor

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"understudy/internal/address"
	"understudy/internal/directory"
	"understudy/internal/wait"
)

func TestReadQueue(t *testing.T) {
	t.Parallel()
	const list = `{"queue_name": "deferred", "queue_id": "4Q", "recipients": [{"address": "ana@example.test", "delay_reason": "host 127.0.0.1[127.0.0.1] said: 554 no (in reply to end of DATA command)"}, {"address": "b@example.test", "delay_reason": "host 127.0.0.1[127.0.0.1] said: 451 4.7.1 grey"}]}
{"queue_name": "active", "queue_id": "4R", "recipients": [{"address": "c@example.test"}, {"address": "uncovered@example.test", "delay_reason": "host mx[192.0.2.1] said: 552 full"}]}
{"queue_name": "deferred", "queue_id": "4S", "recipients": [{"address": "d@Other.test", "delay_reason": "host mx[192.0.2.1] said: 552 full"}]}
`
	covered := func(a address.Address) bool { return a.Local != "uncovered" }
	got, err := readQueue(strings.NewReader(list), covered)
	if err != nil || got["example.test"] != 1 || got["other.test"] != 1 || len(got) != 2 {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := readQueue(strings.NewReader("nonsense"), covered); err == nil {
		t.Error("nonsense was read")
	}
}

// TestQueueCounts: only recipients that are covered, and a failure serves all
// domains for a while, as a listing does.
func TestQueueCounts(t *testing.T) {
	t.Parallel()
	dir := directory.New()
	dir.Apply(&directory.Change{Full: true, Version: 1,
		Domains: []*directory.Domain{{ID: 1, Name: "example.test", Scope: directory.ScopeSelected}},
		Mailboxes: []*directory.Mailbox{{ID: 1, DomainID: 1, Address: "ana@example.test", Covered: true},
			{ID: 2, DomainID: 1, Address: "bruno@example.test"}}})
	const waits = `{"recipients": [{"address": "ANA@example.test", "delay_reason": "host mx[192.0.2.1] said: 554 no"}, {"address": "bruno@example.test", "delay_reason": "host mx[192.0.2.1] said: 554 no"}, {"address": "x@example.test", "delay_reason": "host mx[192.0.2.1] said: 554 no"}]}`
	for name, c := range map[string]struct {
		script string
		want   int
		fails  bool
	}{
		"covered": {"echo '" + waits + "'", 1, false},
		"fails":   {"exit 1", 0, true},
	} {
		calls := filepath.Join(t.TempDir(), "calls")
		q := &Queue{Command: []string{"/bin/sh", "-c", "echo x >>" + calls + "; " + c.script}, Directory: dir}
		for range 3 {
			if n, err := q.Waiting(t.Context(), "example.test"); n != c.want || (err != nil) != c.fails {
				t.Errorf("%s: %d, %v", name, n, err)
			}
		}
		if text, err := os.ReadFile(calls); err != nil || string(text) != "x\n" {
			t.Errorf("%s: listed %q, %v; want once", name, text, err)
		}
	}
}

// TestQueueNeverWaitsForAnother: while one listing hangs, others are answered
// at once; and one that was cut short is not kept.
func TestQueueNeverWaitsForAnother(t *testing.T) {
	t.Parallel()
	fifo := filepath.Join(t.TempDir(), "list") // postqueue hangs until somebody writes
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	q := &Queue{Command: []string{"/bin/sh", "-c", "exec cat " + fifo}, Directory: directory.New()}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := q.Waiting(ctx, "a.test")
		done <- err
	}()
	wait.True(t, "a listing", func() bool {
		q.mu.Lock()
		defer q.mu.Unlock()
		return q.listing
	})
	begin := time.Now()
	if n, err := q.Waiting(t.Context(), "b.test"); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if took := time.Since(begin); took > queueTimeout/2 {
		t.Errorf("waited %v for another's listing", took)
	}
	cancel()
	if err := <-done; err == nil {
		t.Error("a listing that was cut short succeeded")
	}
	go os.WriteFile(fifo, []byte("nonsense"), 0o600) //nolint:errcheck // the reader shows it
	if _, err := q.Waiting(t.Context(), "b.test"); err == nil {
		t.Error("no second listing after the first was cut short")
	}
}
