package main

import (
	"context"
	"os"
	"sync"
	"syscall"
	"time"
)

const batchMessages = 512 // at most, as in the archive

// handed is a message on its way to the goroutine that writes.
type handed struct {
	text []byte
	done chan struct{} // closed when it is on the disk
}

// group appends for a while, and at least one message a writer, by a group
// commit that does nothing else: writers hand their message over as it is, and
// one goroutine writes and syncs all that wait. It returns what that took, in
// how many batches, and how many bytes were written.
func (m *messages) group(path string, length time.Duration) (took spent, batches int, total int64, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return spent{}, 0, 0, err
	}
	defer f.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	queue := make(chan handed, 2*batchMessages)
	begin, stop := time.Now(), stopwatch()
	var writers sync.WaitGroup
	for i := range m.spools {
		writers.Go(func() {
			for n := 0; n == 0 || time.Since(begin) < length && ctx.Err() == nil; n++ {
				h := handed{m.texts[i%len(m.texts)], make(chan struct{})}
				queue <- h
				select {
				case <-h.done:
				case <-ctx.Done():
				}
			}
		})
	}
	go func() { writers.Wait(); close(queue) }()
	for first := range queue {
		batch := []handed{first}
		for range min(batchMessages-1, len(queue)) {
			batch = append(batch, <-queue)
		}
		for _, h := range batch {
			n, err := f.Write(h.text)
			if err != nil {
				return spent{}, 0, 0, err
			}
			total += int64(n)
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return spent{}, 0, 0, err
		}
		batches++
		for _, h := range batch {
			close(h.done)
		}
	}
	return stop(), batches, total, nil
}
