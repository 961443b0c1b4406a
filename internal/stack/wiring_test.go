package stack

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"understudy/internal/wait"
)

// everythingButWorker holds the mode still: what is tested is the templates'
// wiring, not who switches.
var everythingButWorker = []Component{Postgres, Policyd, DovecotAuth, Milter, Dovecot, Postfix, Primary, Internet, Admin}

func startStack(t *testing.T, o Options) *Stack {
	t.Helper()
	return startStackIn(t, filepath.Join(t.TempDir(), "run"), o)
}

// dialFrom connects from another loopback address, as the internet does.
func dialFrom(t *testing.T, source, address string) net.Conn {
	t.Helper()
	d := net.Dialer{Timeout: time.Minute, LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	c, err := d.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func message(subject string) string {
	return "From: <somebody@outside.test>\r\nTo: <ana@example.test>\r\nSubject: " + subject + "\r\nBcc: kept@outside.test\r\n\r\nBody of " + subject +
		"\r\n" + strings.Repeat("long line ", 150) + "\r\n"
}

// transact sends one message and returns the first refusal.
func transact(c *smtp.Client, from string, to []string, text string) error {
	if err := c.Mail(from, nil); err != nil {
		return err
	}
	for _, r := range to {
		if err := c.Rcpt(r, nil); err != nil {
			return err
		}
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, text); err != nil {
		return err
	}
	return w.Close()
}

// fromInternet sends to the public listener as a stranger.
func fromInternet(t *testing.T, s *Stack, from string, to []string, text string) error {
	t.Helper()
	c := smtp.NewClient(dialFrom(t, internetSource, s.layout.address("smtp")))
	defer c.Close()
	return transact(c, from, to, text)
}

func submit(t *testing.T, s *Stack, user, from string, to []string, text string) error {
	t.Helper()
	c, err := smtp.NewClientStartTLS(dialFrom(t, "127.0.0.1", s.layout.address("submission")), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if user != "" {
		password, err := s.layout.secret("login-" + user)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Auth(sasl.NewPlainClient("", user+"@"+Domain, password)); err != nil {
			return err
		}
	}
	return transact(c, from, to, text)
}

// inMaildir expects one message with this text below maildir.
func inMaildir(maildir, text string) (string, error) {
	found, err := filepath.Glob(filepath.Join(maildir, "new", "*"))
	if err != nil {
		return "", err
	}
	for _, f := range found {
		got, err := os.ReadFile(f)
		if err == nil && bytes.Contains(got, []byte(text)) {
			return string(got), nil
		}
	}
	return "", fmt.Errorf("%d messages in %s, none has %q", len(found), maildir, text)
}

// inPortal expects a message in a portal INBOX, read as the master user.
func inPortal(s *Stack, user, text string) (string, error) {
	password, err := s.layout.secret("portal-master")
	if err != nil {
		return "", err
	}
	c, err := imapclient.DialInsecure(s.layout.address("imap"), nil)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.Login(user+"@"+Domain+"*understudy", password).Wait(); err != nil {
		return "", err
	}
	box, err := c.Select("INBOX", nil).Wait()
	if err != nil || box.NumMessages == 0 {
		return "", errors.Join(err, errors.New("empty INBOX"))
	}
	all := imap.SeqSet{}
	all.AddRange(1, box.NumMessages)
	section := &imap.FetchItemBodySection{Peek: true}
	got, err := c.Fetch(all, &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{section}}).Collect()
	if err != nil {
		return "", err
	}
	for _, m := range got {
		if b := m.FindBodySection(section); bytes.Contains(b, []byte(text)) {
			return string(b), nil
		}
	}
	return "", fmt.Errorf("%d messages in the INBOX of %s, none has %q", len(got), user, text)
}

func expectReply(t *testing.T, what string, err error, code int, text string) {
	t.Helper()
	var reply *smtp.SMTPError
	if !errors.As(err, &reply) || reply.Code != code || !strings.Contains(reply.Message, text) {
		t.Errorf("%s: got %v, want %d with %q", what, err, code, text)
	}
}

func TestWiring(t *testing.T) {
	t.Parallel()
	s := startStack(t, Options{Only: everythingButWorker})
	primary := func(user string) string { return s.layout.path("primary", "mail", user) }
	internet := s.layout.path("internet", "mail", "all")

	t.Run("to the primary", func(t *testing.T) {
		if err := fromInternet(t, s, "somebody@outside.test", []string{"ana@example.test"}, message("one")); err != nil {
			t.Fatal(err)
		}
		wait.Until(t, "delivery to the primary", func() error {
			got, err := inMaildir(primary("ana"), "Body of one")
			if err != nil {
				return err
			}
			if body := strings.ReplaceAll(message("one"), "\r\n", "\n"); !strings.HasSuffix(got, body) {
				t.Errorf("the message was changed:\n%s", got)
			}
			if !strings.Contains(got, "X-Understudy-Id: ") {
				t.Errorf("not archived:\n%s", got)
			}
			return nil
		})
	})
	t.Run("refusals", func(t *testing.T) {
		expectReply(t, "unknown recipient", fromInternet(t, s, "a@outside.test", []string{"nobody@example.test"}, ""), 550, "User unknown in virtual mailbox table")
		expectReply(t, "relaying", fromInternet(t, s, "a@outside.test", []string{"b@elsewhere.test"}, ""), 554, "Relay access denied")
		expectReply(t, "relaying with a forged sender", fromInternet(t, s, "ana@example.test", []string{"b@elsewhere.test"}, ""), 554, "Relay access denied")
		expectReply(t, "submission without a login", submit(t, s, "", "ana@example.test", []string{"b@elsewhere.test"}, ""), 554, "Client host rejected")
		expectReply(t, "submission with another's address", submit(t, s, "bruno", "ana@example.test", []string{"b@elsewhere.test"}, ""), 553, "not owned by user")
	})
	t.Run("primary's users send out through us", func(t *testing.T) {
		c := smtp.NewClient(dialFrom(t, "127.0.0.1", s.layout.address("primary")))
		defer c.Close()
		if err := transact(c, "dora@example.test", []string{"friend@elsewhere.test"}, message("out")); err != nil {
			t.Fatal(err)
		}
		wait.Until(t, "delivery to the internet", func() error { _, err := inMaildir(internet, "Body of out"); return err })
	})
	t.Run("portal users send out", func(t *testing.T) {
		if err := submit(t, s, "ana", "ana@example.test", []string{"friend@elsewhere.test"}, message("answer")); err != nil {
			t.Fatal(err)
		}
		wait.Until(t, "delivery to the internet", func() error { _, err := inMaildir(internet, "Body of answer"); return err })
	})
	t.Run("internet's server sends in", func(t *testing.T) {
		c := smtp.NewClient(dialFrom(t, "127.0.0.1", s.layout.address("internet")))
		defer c.Close()
		if err := transact(c, "friend@elsewhere.test", []string{"carla@example.test", "dora@example.test"}, message("in")); err != nil {
			t.Fatal(err)
		}
		for _, user := range []string{"carla", "dora"} {
			wait.Until(t, "delivery to the primary", func() error { _, err := inMaildir(primary(user), "Body of in"); return err })
		}
	})
	t.Run("the worker's way into the portal", func(t *testing.T) {
		key, err := s.layout.secret("doveadm-api-key")
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.layout.address("doveadm")+"/doveadm/v1",
			strings.NewReader(`[["user",{"userMask":["ana@example.test"]},"t"]]`))
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("doveadm", "wrong")
		resp, err := http.DefaultClient.Do(req)
		if err != nil || resp.StatusCode == http.StatusOK {
			t.Errorf("doveadm without its key: %v, %v", resp, err)
		}
		req, err = http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.layout.address("doveadm")+"/doveadm/v1",
			strings.NewReader(`[["user",{"userMask":["ana@example.test"]},"t"]]`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "X-Dovecot-API "+base64Of(key))
		resp, err = http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || !bytes.Contains(body, []byte("/dovecot/mail/example.test/ana")) {
			t.Errorf("doveadm: %s, %v: %s", resp.Status, err, body)
		}
	})
	t.Run("primary down", func(t *testing.T) {
		if err := s.Stop(t.Context(), Primary); err != nil {
			t.Fatal(err)
		}
		to := []string{"ana@example.test", "bruno@example.test"}
		if err := fromInternet(t, s, "somebody@outside.test", to, message("two")); err != nil {
			t.Fatal(err)
		}
		for _, user := range []string{"ana", "bruno"} {
			wait.Until(t, "delivery to the portal", func() error {
				got, err := inPortal(s, user, "Body of two")
				if err != nil {
					return err
				}
				if !strings.HasSuffix(got, message("two")) {
					t.Errorf("the message was changed:\n%s", got)
				}
				if !strings.Contains(got, "Delivered-To: "+user+"@example.test\r\n") || !strings.Contains(got, "Return-Path: <somebody@outside.test>\r\n") {
					t.Errorf("no envelope on top:\n%s", got)
				}
				return nil
			})
		}
		if err := s.Start(t.Context(), Primary); err != nil {
			t.Fatal(err)
		}
	})
}

func base64Of(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
