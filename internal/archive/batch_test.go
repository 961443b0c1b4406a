package archive

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"understudy/internal/wait"
)

// waiting is how many messages nobody has taken yet.
func (l *line) waiting() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.wait {
		n += len(b.messages)
	}
	return n
}

// TestDiskHangs: who waits for a disk that does not answer waits no longer than
// it wants. What waited in line is not written; what was being written may be.
func TestDiskHangs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	hold, syncing := make(chan struct{}), make(chan struct{}, 9)
	w := openTest(t, dir, Options{sync: func(f *os.File) error {
		syncing <- struct{}{}
		<-hold
		return fdatasync(f)
	}})
	append := func(i int, timeout time.Duration) chan error {
		out := make(chan error, 1)
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		go func() {
			defer cancel()
			_, err := w.Append(ctx, testEnvelope(i), spoolOf(t, []byte("x")))
			out <- err
		}()
		return out
	}
	written := append(0, 100*time.Millisecond)
	<-syncing
	left, stays := append(1, 100*time.Millisecond), append(2, time.Minute)
	for _, c := range []chan error{written, left} {
		if err := <-c; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a disk that hangs: %v", err)
		}
	}
	wait.True(t, "one waits", func() bool { return w.line.waiting() == 1 })
	close(hold)
	if err := <-stays; err != nil {
		t.Error(err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if _, err := w.Append(t.Context(), testEnvelope(3), spoolOf(t, []byte("x"))); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	if !w.compressor.memory.TryAcquire(payloadMemory) {
		t.Error("some payload is still held")
	}
	got, damaged := readAll(t, dir)
	if len(got) != 2 || damaged != 0 || got[0].Envelope.Sender != testEnvelope(0).Sender || got[1].Envelope.Sender != testEnvelope(2).Sender {
		t.Errorf("%d damaged bytes, records %+v", damaged, got)
	}
}

// TestLine: batches are bounded, in order, and what left is in none.
func TestLine(t *testing.T) {
	t.Parallel()
	l := newLine()
	one := func(bytes int64) (*batch, *pending) {
		p := &pending{header: header{payload: bytes}}
		return l.add(p), p
	}
	first, _ := one(1)
	for range batchMessages - 1 {
		one(1)
	}
	second, large := one(batchBytes)
	third, alone := one(1)
	if first == second || second == third || l.waiting() != batchMessages+2 {
		t.Error("the batches are not bounded")
	}
	if !l.leave(third, alone) || !l.leave(second, large) {
		t.Error("nobody can leave")
	}
	for _, want := range []*batch{first, second, third} {
		select {
		case <-l.wake:
		default:
			t.Fatal("nobody is woken for a batch")
		}
		if got := l.take(); got != want {
			t.Fatalf("%p was taken, want %p", got, want)
		}
	}
	if len(first.messages) != batchMessages || len(second.messages)+len(third.messages) != 0 || second.bytes != 0 || l.take() != nil {
		t.Errorf("batches of %d, %d, %d messages", len(first.messages), len(second.messages), len(third.messages))
	}
	if l.leave(first, first.messages[0]) {
		t.Error("a message left that was taken")
	}
	if !l.close() || l.close() {
		t.Error("close does not tell the first call")
	}
	if b, _ := one(1); b != nil {
		t.Error("a closed line takes more")
	}
}
