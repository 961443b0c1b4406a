package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/semaphore"

	"understudy/internal/wait"
)

// TestClosedWhileWritten: a caller no longer waits and closes its message
// while the writing goroutine has it. What is written is the message
// nonetheless, and then its memory and its file are free.
func TestClosedWhileWritten(t *testing.T) {
	t.Parallel()
	for _, size := range []int{100, 3 * chunkSize, spoolShare + chunkSize/2} {
		t.Run(fmt.Sprintf("%d bytes", size), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			var held atomic.Bool
			release := make(chan struct{})
			w := openTest(t, dir, Options{now: func() time.Time { // asked for before a batch is written
				held.Store(true)
				<-release
				return time.Now()
			}})
			w.compressor.rate.SetBurst(0)
			body := randomBytes(1, size)
			message := NewSpool(t.TempDir(), 1<<30)
			message.memory = semaphore.NewWeighted(spoolBudget)
			if _, err := message.Write(body); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() {
				_, err := w.Append(ctx, testEnvelope(1), message)
				done <- err
			}()
			wait.True(t, "the message is taken", held.Load)
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("canceled: %v", err)
			}
			for range 2 {
				if err := message.Close(); err != nil {
					t.Error(err)
				}
			}
			if _, err := message.Write(body); err == nil {
				t.Error("a closed spool takes more")
			}
			for range 40 { // what is free is soon another's
				c := chunks.Get().(*[chunkSize]byte)
				clear(c[:])
				defer chunks.Put(c)
			}
			close(release)
			if err := w.Close(); err != nil {
				t.Error(err)
			}
			got, damaged := readAll(t, dir)
			if len(got) != 1 || damaged != 0 || !bytes.Equal([]byte(got[0].Body), body) {
				t.Errorf("%d records, %d bytes damaged", len(got), damaged)
			}
			if !message.memory.TryAcquire(spoolBudget) {
				t.Error("memory is still held")
			}
			if message.buf != nil || message.file != nil && message.file.Close() == nil {
				t.Error("the message is still there")
			}
		})
	}
}
