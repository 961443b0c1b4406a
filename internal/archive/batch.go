package archive

import (
	"slices"
	"sync"
)

const (
	batchMessages = 512      // that are written together, at most
	batchBytes    = 64 << 20 // and no more behind so many
)

// pending is one message on its way to the disk.
type pending struct {
	header  header
	payload payload
	ref     Ref
}

// batch is what is written and synced together.
type batch struct {
	messages []*pending
	bytes    int64         // of their payloads
	err      error         // why none of them is durable; read after done
	done     chan struct{} // closed when that is known
}

// line is where messages wait for the writing goroutine, gathered in batches:
// while one is being synced the next one grows by itself.
type line struct {
	mu     sync.Mutex
	closed bool
	wait   []*batch      // the first to be written first; the last one grows
	wake   chan struct{} // holds something while anything waits
}

func newLine() *line { return &line{wake: make(chan struct{}, 1)} }

// add puts p into a batch, nil after close.
func (l *line) add(p *pending) *batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	last := len(l.wait) - 1
	if last < 0 || len(l.wait[last].messages) == batchMessages || l.wait[last].bytes >= batchBytes {
		l.wait = append(l.wait, &batch{done: make(chan struct{})})
		last++
	}
	b := l.wait[last]
	b.messages, b.bytes = append(b.messages, p), b.bytes+p.header.payload
	if len(b.messages) == 1 {
		l.ring()
	}
	return b
}

// take returns the first batch, nil when there is none.
func (l *line) take() *batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.wait) == 0 {
		return nil
	}
	b := l.wait[0]
	if l.wait = l.wait[1:]; len(l.wait) > 0 {
		l.ring()
	}
	return b
}

func (l *line) ring() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// leave takes p out of its batch, and reports whether that was still possible.
func (l *line) leave(b *batch, p *pending) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, waits := range l.wait {
		if waits == b {
			b.messages = slices.DeleteFunc(b.messages, func(other *pending) bool { return other == p })
			b.bytes -= p.header.payload
			return true
		}
	}
	return false
}

// close lets nobody in any more, and reports whether it was the first to.
func (l *line) close() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := !l.closed
	l.closed = true
	return first
}
