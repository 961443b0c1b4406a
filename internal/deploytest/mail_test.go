//go:build deploy

package deploytest

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"understudy/internal/archive"
)

// The machine's certificate is Debian's snake oil.
var insecure = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // of a machine made for this test

const dialogue = 3 * time.Minute

func message(token, from, to string) []byte {
	return fmt.Appendf(nil, "From: <%s>\r\nTo: <%s>\r\nSubject: %s\r\nMessage-ID: <%s@client.invalid>\r\n\r\nBody of %s.\r\n", from, to, token, token, token)
}

// send delivers a message to port 25.
func (m *machine) send(from, to string, text []byte) error {
	conn, err := m.dial(context.Background(), "tcp", "127.0.0.1:25")
	if err != nil {
		return err
	}
	c := smtp.NewClient(conn)
	defer c.Close()
	c.CommandTimeout, c.SubmissionTimeout = dialogue, dialogue
	return c.SendMail(from, []string{to}, bytes.NewReader(text))
}

// submit delivers a message as a mailbox's owner.
func (m *machine) submit(login, password, to string, text []byte) error {
	conn, err := m.dial(context.Background(), "tcp", "127.0.0.1:587")
	if err != nil {
		return err
	}
	c, err := smtp.NewClientStartTLS(conn, insecure)
	if err != nil {
		return err
	}
	defer c.Close()
	c.CommandTimeout, c.SubmissionTimeout = dialogue, dialogue
	if err := c.Auth(sasl.NewPlainClient("", login, password)); err != nil {
		return err
	}
	return c.SendMail(login, []string{to}, bytes.NewReader(text))
}

// inInbox says whether a message with the token is in the owner's INBOX.
func (m *machine) inInbox(login, password, token string) error {
	conn, err := m.dial(context.Background(), "tcp", "127.0.0.1:993")
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(dialogue)); err != nil {
		return err
	}
	c := imapclient.New(tls.Client(conn, insecure), nil)
	defer c.Close()
	if err := c.Login(login, password).Wait(); err != nil {
		return err
	}
	box, err := c.Select("INBOX", nil).Wait()
	if err != nil {
		return err
	}
	if box.NumMessages == 0 {
		return fmt.Errorf("INBOX is empty")
	}
	section := &imap.FetchItemBodySection{Peek: true}
	all := imap.SeqSet{}
	all.AddRange(1, 0)
	msgs, err := c.Fetch(all, &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{section}}).Collect()
	if err != nil {
		return err
	}
	for _, msg := range msgs {
		if bytes.Contains(msg.FindBodySection(section), []byte("\r\n\r\nBody of "+token+".\r\n")) {
			return nil
		}
	}
	return fmt.Errorf("%s is not among the %d messages of INBOX", token, len(msgs))
}

// inArchive says whether the archive holds exactly this message for the recipient.
func (m *machine) inArchive(recipient string, text []byte) error {
	dir := m.root + "/var/lib/understudy/archive"
	segments, err := archive.Segments(dir)
	if err != nil {
		return err
	}
	for _, s := range segments {
		found, err := segmentHolds(dir, s.Name, recipient, text)
		if err != nil || found {
			return err
		}
	}
	return fmt.Errorf("not in any of %d segments", len(segments))
}

func segmentHolds(dir, name, recipient string, text []byte) (bool, error) {
	r, err := archive.OpenSegment(dir, name)
	if err != nil {
		return false, err
	}
	defer r.Close()
	for {
		rec, err := r.Next()
		if err == io.EOF {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		body, err := io.ReadAll(rec.Body)
		if err != nil {
			return false, err
		}
		if bytes.HasSuffix(body, text) && len(rec.Recipients) == 1 && strings.Trim(rec.Recipients[0], "<>") == recipient {
			return true, nil
		}
	}
}

// healthy asks a service's health endpoint.
func (m *machine) healthy(port int) error {
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{DialContext: m.dial, DisableKeepAlives: true}}
	resp, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/healthz", port))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", resp.Status, body)
	}
	return nil
}
