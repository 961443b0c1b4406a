package starving

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-smtp"

	"understudy/internal/bench/rig"
	"understudy/internal/smtpsink"
	"understudy/internal/wait"
)

// primary is a mail server that takes everything, and notes when each message
// came.
type primary struct {
	server *smtp.Server

	mu sync.Mutex
	at map[string]time.Time // by subject
}

func newPrimary(address string) (*primary, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	p := &primary{at: map[string]time.Time{}}
	p.server = smtpsink.Start(l, p.take)
	return p, nil
}

func (p *primary) close() { p.server.Close() }

// wait waits until the message with that subject has come.
func (p *primary) wait(ctx context.Context, subject string) (at time.Time, err error) {
	err = wait.For(ctx, 5*time.Minute, rig.Poll, func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		var ok bool
		if at, ok = p.at[subject]; !ok {
			return fmt.Errorf("message %q has not come", subject)
		}
		return nil
	})
	return at, err
}

func (p *primary) take(message io.Reader) error {
	subject, in := "", bufio.NewScanner(message)
	for in.Scan() {
		if text, ok := strings.CutPrefix(in.Text(), "Subject: "); ok {
			subject = text
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at[subject] = time.Now()
	return in.Err()
}
