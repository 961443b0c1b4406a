package story

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// dialogueTimeout bounds each step of a client's dialogue with a server.
const dialogueTimeout = time.Minute

// insecureTLS trusts the scratch stack's own certificate.
var insecureTLS = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // loopback, self-signed

// send delivers one message over SMTP like any stranger would. An error of
// the server is a *smtp.SMTPError.
func send(addr, from string, to []string, message []byte) error {
	c, err := smtp.Dial(addr)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", addr, err)
	}
	defer c.Close()
	c.CommandTimeout, c.SubmissionTimeout = dialogueTimeout, dialogueTimeout
	return transact(c, from, to, message)
}

// submit sends like a portal user: submission with STARTTLS and a password.
func submit(addr, login, password string, to []string, message []byte) error {
	conn, err := net.DialTimeout("tcp", addr, dialogueTimeout)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", addr, err)
	}
	c, err := smtp.NewClientStartTLS(conn, insecureTLS)
	if err != nil {
		return fmt.Errorf("STARTTLS with %s: %w", addr, err)
	}
	defer c.Close()
	c.CommandTimeout, c.SubmissionTimeout = dialogueTimeout, dialogueTimeout
	if err := c.Auth(sasl.NewPlainClient("", login, password)); err != nil {
		return fmt.Errorf("authenticate as %s: %w", login, err)
	}
	return transact(c, login, to, message)
}

func transact(c *smtp.Client, from string, to []string, message []byte) error {
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
	if _, err := w.Write(message); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	c.Quit() //nolint:errcheck // the message is accepted
	return nil
}

// refusal returns the code and the text of a server's refusal.
func refusal(err error) (int, string) {
	var e *smtp.SMTPError
	if errors.As(err, &e) {
		return e.Code, fmt.Sprintf("%d %d.%d.%d %s", e.Code, e.EnhancedCode[0], e.EnhancedCode[1], e.EnhancedCode[2], e.Message)
	}
	return 0, fmt.Sprint(err)
}

// mailbox is a user's IMAP connection.
type mailbox struct{ c *imapclient.Client }

func openMailbox(addr, login, password string) (*mailbox, error) {
	conn, err := net.DialTimeout("tcp", addr, dialogueTimeout)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	conn.SetDeadline(time.Now().Add(2 * dialogueTimeout)) //nolint:errcheck // a TCP connection takes deadlines
	c, err := imapclient.NewStartTLS(conn, &imapclient.Options{TLSConfig: insecureTLS})
	if err != nil {
		return nil, fmt.Errorf("STARTTLS with %s: %w", addr, err)
	}
	if err := c.Login(login, password).Wait(); err != nil {
		c.Close()
		return nil, fmt.Errorf("log in as %s: %w", login, err)
	}
	return &mailbox{c}, nil
}

func (m *mailbox) close() { m.c.Logout().Wait(); m.c.Close() } //nolint:errcheck // best effort

// inbox returns the messages of INBOX by UID.
func (m *mailbox) inbox() (map[imap.UID][]byte, error) {
	sel, err := m.c.Select("INBOX", nil).Wait()
	if err != nil {
		return nil, fmt.Errorf("select INBOX: %w", err)
	}
	out := map[imap.UID][]byte{}
	if sel.NumMessages == 0 {
		return out, nil
	}
	section := &imap.FetchItemBodySection{Peek: true}
	all := imap.SeqSet{}
	all.AddRange(1, 0)
	msgs, err := m.c.Fetch(all, &imap.FetchOptions{UID: true, BodySection: []*imap.FetchItemBodySection{section}}).Collect()
	if err != nil {
		return nil, fmt.Errorf("fetch INBOX: %w", err)
	}
	for _, msg := range msgs {
		out[msg.UID] = msg.FindBodySection(section)
	}
	return out, nil
}

// find returns the UID of the message in INBOX that contains the token.
func (m *mailbox) find(token string) (imap.UID, []byte, error) {
	msgs, err := m.inbox()
	if err != nil {
		return 0, nil, err
	}
	for uid, text := range msgs {
		if bytes.Contains(text, []byte(token)) {
			return uid, text, nil
		}
	}
	return 0, nil, fmt.Errorf("no message with %s among %d in INBOX", token, len(msgs))
}

// move files a message of INBOX into another folder, made if need be.
func (m *mailbox) move(uid imap.UID, folder string) error {
	if err := m.c.Create(folder, nil).Wait(); err != nil {
		return fmt.Errorf("create %s: %w", folder, err)
	}
	_, err := m.c.Move(imap.UIDSetNum(uid), folder).Wait()
	return err
}

// remove deletes a message of INBOX for good.
func (m *mailbox) remove(uid imap.UID) error {
	flag := &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: []imap.Flag{imap.FlagDeleted}}
	if err := m.c.Store(imap.UIDSetNum(uid), flag, nil).Close(); err != nil {
		return err
	}
	return m.c.Expunge().Close()
}

// popFind logs in by POP3 (RFC 1939, STLS of RFC 2595) and retrieves the
// message that contains the token.
func popFind(ctx context.Context, addr, login, password, token string) error {
	conn, err := (&net.Dialer{Timeout: dialogueTimeout}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(dialogueTimeout)) //nolint:errcheck // a TCP connection takes deadlines
	p := textproto.NewConn(conn)
	ask := func(line string) (string, error) {
		if line != "" {
			if err := p.PrintfLine("%s", line); err != nil {
				return "", err
			}
		}
		l, err := p.ReadLine()
		if err == nil && !strings.HasPrefix(l, "+OK") {
			err = fmt.Errorf("POP3: %s", l)
		}
		return l, err
	}
	if _, err := ask(""); err != nil {
		return err
	}
	if _, err := ask("STLS"); err != nil {
		return err
	}
	p = textproto.NewConn(tls.Client(conn, insecureTLS))
	for _, l := range []string{"USER " + login, "PASS " + password} {
		if _, err := ask(l); err != nil {
			return err
		}
	}
	stat, err := ask("STAT")
	if err != nil {
		return err
	}
	var n int
	if _, err := fmt.Sscanf(stat, "+OK %d", &n); err != nil {
		return fmt.Errorf("POP3 STAT %q: %w", stat, err)
	}
	for i := 1; i <= n; i++ {
		if _, err := ask(fmt.Sprintf("RETR %d", i)); err != nil {
			return err
		}
		text, err := io.ReadAll(p.DotReader())
		if err != nil {
			return err
		}
		if bytes.Contains(text, []byte(token)) {
			_, err := ask("QUIT")
			return err
		}
	}
	return fmt.Errorf("POP3: no message with %s among %d", token, n)
}
