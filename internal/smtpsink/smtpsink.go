// Package smtpsink is a mail server for tests and benchmarks that takes
// everything.
package smtpsink

import (
	"io"
	"log"
	"net"

	"github.com/emersion/go-smtp"
)

// Start serves SMTP until the server is closed. Each message is given to take,
// by several goroutines at once; its error refuses the message.
func Start(l net.Listener, take func(message io.Reader) error) *smtp.Server {
	s := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return session{take}, nil }))
	s.Domain, s.MaxLineLength, s.MaxMessageBytes = "sink.test", 1<<20, 1<<30
	s.ErrorLog = log.New(io.Discard, "", 0) // clients that go away
	go s.Serve(l)                           //nolint:errcheck // ends with Close
	return s
}

type session struct{ take func(io.Reader) error }

func (session) Reset()                               {}
func (session) Logout() error                        { return nil }
func (session) Mail(string, *smtp.MailOptions) error { return nil }
func (session) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (s session) Data(r io.Reader) error             { return s.take(r) }
