// Package portaltest starts a real Dovecot for tests: IMAP, LMTP and doveadm
// over HTTP on loopback, in a directory of its own.
package portaltest

import (
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-smtp"

	"understudy/internal/dovecottest"
	"understudy/internal/freeport"
	"understudy/internal/portal"
)

//go:embed dovecot.conf
var template string

const (
	apiKey         = "portaltest-key"
	masterUser     = "drain"
	masterPassword = "master \"secret\""
	userPassword   = "secret"
	mailUID        = 21000 // of no account: Dovecot needs none
)

// Server is a running Dovecot.
type Server struct {
	LMTP   string        // "host:port"
	Config portal.Config // of a client

	*dovecottest.Server
	tb testing.TB
}

// Start starts Dovecot with these mailboxes, which have no home yet; it is
// stopped and removed when the test ends.
func Start(tb testing.TB, mailboxes ...string) *Server {
	tb.Helper()
	// Not tb.TempDir: mail is written by a user that cannot enter that.
	dir, err := os.MkdirTemp("", "portaltest-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	s := &Server{tb: tb, LMTP: freeport.For(tb), Config: portal.Config{DoveadmURL: "http://" + freeport.For(tb), APIKey: apiKey,
		IMAPAddress: freeport.For(tb), MasterUser: masterUser, MasterPassword: masterPassword, Timeout: time.Minute}}
	s.Server = dovecottest.New(tb, dir, s.LMTP, s.Config.IMAPAddress, strings.TrimPrefix(s.Config.DoveadmURL, "http://"))
	var users strings.Builder
	for _, m := range mailboxes {
		fmt.Fprintf(&users, "%s:{PLAIN}%s:%d:%d::%s::\n", m, userPassword, mailUID, mailUID, s.Home(m))
	}
	s.Write("users", users.String())
	s.Write("masters", masterUser+":{PLAIN}"+masterPassword+"\n")
	s.Write("dovecot.conf", strings.NewReplacer("@DIR@", dir, "@UID@", strconv.Itoa(mailUID), "@KEY@", apiKey,
		"@LMTP_PORT@", port(s.LMTP), "@IMAP_PORT@", port(s.Config.IMAPAddress), "@HTTP_PORT@", port(s.Config.DoveadmURL)).Replace(template))
	for _, d := range []string{dir, filepath.Join(dir, "mail")} {
		if err := errors.Join(os.MkdirAll(d, 0o755), os.Chmod(d, 0o755)); err != nil {
			tb.Fatal(err)
		}
	}
	if err := os.Chown(filepath.Join(dir, "mail"), mailUID, mailUID); err != nil {
		tb.Fatalf("%v (these tests start Dovecot as root)", err)
	}
	s.Run()
	return s
}

// Home is where a mailbox lives.
func (s *Server) Home(mailbox string) string {
	local, domain, _ := strings.Cut(mailbox, "@")
	return filepath.Join(s.Dir, "mail", domain, local)
}

// Deliver brings a message to a mailbox, as Postfix would.
func (s *Server) Deliver(sender, recipient, message string) {
	s.tb.Helper()
	conn, err := net.Dial("tcp", s.LMTP)
	if err != nil {
		s.tb.Fatal(err)
	}
	c := smtp.NewClientLMTP(conn)
	defer c.Close()
	if err = c.Mail(sender, nil); err == nil {
		err = c.Rcpt(recipient, nil)
	}
	var w *smtp.DataCommand
	if err == nil {
		w, err = c.Data()
	}
	if err == nil {
		if _, err = w.Write([]byte(message)); err == nil {
			err = w.Close()
		}
	}
	if err != nil {
		s.tb.Fatalf("deliver to %s: %v", recipient, err)
	}
}

// Login gives an IMAP connection as the owner of a mailbox, with INBOX open.
func (s *Server) Login(mailbox string) *imapclient.Client {
	s.tb.Helper()
	c, err := imapclient.DialInsecure(s.Config.IMAPAddress, nil)
	if err == nil {
		err = c.Login(mailbox, userPassword).Wait()
	}
	if err == nil {
		_, err = c.Select("INBOX", nil).Wait()
	}
	if err != nil {
		s.tb.Fatalf("log in as %s: %v", mailbox, err)
	}
	s.tb.Cleanup(func() { c.Close() })
	return c
}

func port(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }
