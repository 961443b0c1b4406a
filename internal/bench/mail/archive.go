package mail

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/time/rate"

	"understudy/internal/archive"
)

// Stored is what came of archiving messages.
type Stored struct {
	Messages int
	Bytes    int64 // of the messages as they were
	Log      int64 // in the archive's segments
}

// Archive appends the messages that next returns, until it returns nil, to
// the archive in dir, several at once, and seals it. All of it is compressed, as
// it is of mail that comes in its time.
func Archive(ctx context.Context, dir string, next func() []byte) (Stored, error) {
	w, err := archive.OpenWriter(dir, archive.Options{Compress: rate.Inf})
	if err != nil {
		return Stored{}, err
	}
	var total Stored
	var all error
	var mu sync.Mutex
	queue := make(chan []byte)
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for text := range queue {
				n, err := appendOne(ctx, w, text)
				mu.Lock()
				total.Messages, total.Bytes, total.Log = total.Messages+1, total.Bytes+int64(len(text)), total.Log+n
				all = errors.Join(all, err)
				mu.Unlock()
			}
		})
	}
	for text := next(); text != nil && ctx.Err() == nil; text = next() {
		queue <- text
	}
	close(queue)
	wg.Wait()
	if err := errors.Join(all, w.Close(), ctx.Err()); err != nil {
		return Stored{}, fmt.Errorf("archive generated mail: %w", err)
	}
	return total, nil
}

func appendOne(ctx context.Context, w *archive.Writer, text []byte) (int64, error) {
	s := archive.NewSpool("", int64(len(text))+1)
	defer s.Close()
	if _, err := s.Write(text); err != nil {
		return 0, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return 0, err
	}
	ref, err := w.Append(ctx, &archive.Envelope{ID: id, Received: time.Now().UTC().Truncate(time.Microsecond), Direction: archive.Inbound,
		Sender: "a@example.org", Recipients: []string{"ana@example.test"}, Mailboxes: []string{"ana@example.test"},
		Client: "192.0.2.1", Helo: "mail.example.org", QueueID: "4fXyz0000000001"}, s)
	return ref.Length, err
}
