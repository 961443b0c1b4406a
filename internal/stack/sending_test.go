package stack

import (
	"crypto/tls"
	"errors"
	"fmt"
	"testing"

	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"understudy/internal/wait"
)

// TestSending: a customer's server that signs in, what it may and may not,
// also without PostgreSQL; and the ways of bounces.
func TestSending(t *testing.T) {
	t.Parallel()
	s := startStack(t, Options{Only: everythingButWorker})
	internet := s.layout.path("internet", "mail", "all")
	const secret = "a long enough secret"
	if _, err := s.CLI(t.Context(), secret+"\n", "outbound", "add", "relay-1", "--domain", Domain, "--password-stdin"); err != nil {
		t.Fatal(err)
	}
	signedIn := func() *smtp.Client {
		var c *smtp.Client
		wait.Until(t, "the account signs in", func() error {
			if c != nil {
				c.Close()
			}
			var err error
			if c, err = smtp.NewClientStartTLS(dialFrom(t, internetSource, s.layout.address("submission")), &tls.Config{InsecureSkipVerify: true}); err != nil {
				return err
			}
			return c.Auth(sasl.NewPlainClient("", "relay-1", secret))
		})
		t.Cleanup(func() { c.Close() })
		return c
	}
	arrives := func(text string) {
		t.Helper()
		wait.Until(t, "delivery to the internet", func() error { _, err := inMaildir(internet, text); return err })
	}
	to := []string{"friend@elsewhere.test"}

	c := signedIn()
	if err := transact(c, "robot@example.test", to, message("from a server")); err != nil { // nobody registered that address
		t.Fatal(err)
	}
	arrives("Body of from a server")
	if err := transact(c, "", to, message("a bounce of a server")); err != nil {
		t.Fatal(err)
	}
	arrives("Body of a bounce of a server")
	expectReply(t, "another's sender", transact(c, "x@elsewhere.test", to, ""), 553, "not owned by user relay-1")

	i, err := imapclient.DialInsecure(s.layout.address("imap"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	if err := i.Login("relay-1", secret).Wait(); err == nil {
		t.Error("the account reads mail")
	}

	// A portal user asks for a delivery report, which comes back as a bounce would.
	password, err := s.layout.secret("login-ana")
	if err != nil {
		t.Fatal(err)
	}
	u, err := smtp.NewClientStartTLS(dialFrom(t, "127.0.0.1", s.layout.address("submission")), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	err = errors.Join(u.Auth(sasl.NewPlainClient("", "ana@"+Domain, password)), u.Mail("ana@example.test", nil),
		u.Rcpt("friend@elsewhere.test", &smtp.RcptOptions{Notify: []smtp.DSNNotify{smtp.DSNNotifySuccess, smtp.DSNNotifyFailure}}))
	if err != nil {
		t.Fatal(err)
	}
	w, err := u.Data()
	if err == nil {
		_, err = fmt.Fprint(w, message("with a report"))
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	arrives("Body of with a report")
	wait.Until(t, "the report", func() error {
		_, err := inMaildir(s.layout.path("primary", "mail", "ana"), "Action: delivered")
		return err
	})

	// All of it comes from memory, or after a restart from the saved directory.
	if err := errors.Join(s.Stop(t.Context(), Postgres), s.Restart(t.Context(), DovecotAuth), s.Restart(t.Context(), Policyd)); err != nil {
		t.Fatal(err)
	}
	c = signedIn()
	if err := transact(c, "robot@example.test", to, message("without a database")); err != nil {
		t.Fatal(err)
	}
	arrives("Body of without a database")
	expectReply(t, "another's sender, without a database", transact(signedIn(), "x@elsewhere.test", to, ""), 553, "not owned by user relay-1")
	if err := s.Start(t.Context(), Postgres); err != nil {
		t.Fatal(err)
	}
}
