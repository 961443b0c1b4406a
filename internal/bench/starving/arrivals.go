package starving

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-smtp"

	"understudy/internal/bench/rig"
)

// arrivals is a primary that notes when each message came.
type arrivals struct {
	server *smtp.Server

	mu sync.Mutex
	at map[string]time.Time // by subject
}

func newArrivals(address string) (*arrivals, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	a := &arrivals{at: map[string]time.Time{}}
	a.server = smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return session{a}, nil }))
	a.server.Domain, a.server.ErrorLog = "mail.example.test", log.New(io.Discard, "", 0)
	go a.server.Serve(l) //nolint:errcheck // ends with close
	return a, nil
}

func (a *arrivals) close() { a.server.Close() }

// wait waits until the message with that subject has come.
func (a *arrivals) wait(ctx context.Context, subject string) (at time.Time, err error) {
	err = rig.Wait(ctx, 5*time.Minute, func() error {
		a.mu.Lock()
		defer a.mu.Unlock()
		var ok bool
		if at, ok = a.at[subject]; !ok {
			return fmt.Errorf("message %q has not come", subject)
		}
		return nil
	})
	return at, err
}

type session struct{ a *arrivals }

func (session) Reset()                               {}
func (session) Logout() error                        { return nil }
func (session) Mail(string, *smtp.MailOptions) error { return nil }
func (session) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (s session) Data(r io.Reader) error {
	in := bufio.NewScanner(r)
	for in.Scan() {
		if subject, ok := strings.CutPrefix(in.Text(), "Subject: "); ok {
			s.a.mu.Lock()
			s.a.at[subject] = time.Now()
			s.a.mu.Unlock()
		}
	}
	return in.Err()
}
