package matrix

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"understudy/internal/stack"
)

// portal opens mailboxes by IMAP as their users would.
type portal struct{ address, master, password string }

func (p *portal) open(t *testing.T, st *stack.Stack) {
	t.Helper()
	dir := filepath.Join(st.Dir(), "etc", "secrets")
	secret, err := os.ReadFile(filepath.Join(dir, "portal-master"))
	if err != nil {
		t.Fatal(err)
	}
	roles, err := stack.OpenRoles(repoRoot)
	if err != nil {
		t.Fatal(err)
	}
	p.address, p.password = st.Info.IMAP, strings.TrimSpace(string(secret))
	p.master = fmt.Sprint(roles.Defaults()["dovecot_master_user"])
}

// inbox is one mailbox, looked at by IMAP.
type inbox struct{ c *imapclient.Client }

func (p *portal) inbox(mailbox string) (*inbox, error) {
	conn, err := net.DialTimeout("tcp", p.address, time.Minute)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(3 * patience)) //nolint:errcheck // a TCP connection takes deadlines
	b := &inbox{c: imapclient.New(conn, nil)}
	if err := b.c.Login(mailbox+"*"+p.master, p.password).Wait(); err != nil {
		b.c.Close()
		return nil, fmt.Errorf("log in for %s: %w", mailbox, err)
	}
	if _, err := b.c.Select("INBOX", &imap.SelectOptions{ReadOnly: true}).Wait(); err != nil {
		b.c.Close()
		return nil, fmt.Errorf("INBOX of %s: %w", mailbox, err)
	}
	return b, nil
}

// errGone is an INBOX that Dovecot closed.
var errGone = errors.New("INBOX is not selected any more")

// copies is how many messages with this subject can be read now.
func (b *inbox) copies(token string) (int, error) {
	if err := b.c.Noop().Wait(); err != nil {
		return 0, err
	}
	if box := b.c.Mailbox(); box == nil {
		return 0, errGone
	} else if box.NumMessages == 0 {
		return 0, nil
	}
	found, err := b.c.Search(&imap.SearchCriteria{Header: []imap.SearchCriteriaHeaderField{{Key: "Subject", Value: token}}}, nil).Wait()
	if err != nil {
		return 0, err
	}
	return len(found.AllSeqNums()), nil
}

// tokens are the subjects of all messages.
func (b *inbox) tokens() ([]string, error) {
	if err := b.c.Noop().Wait(); err != nil {
		return nil, err
	}
	box := b.c.Mailbox()
	if box == nil {
		return nil, errGone
	}
	n := box.NumMessages
	if n == 0 {
		return nil, nil
	}
	all := imap.SeqSet{}
	all.AddRange(1, n)
	found, err := b.c.Fetch(all, &imap.FetchOptions{Envelope: true}).Collect()
	var out []string
	for _, m := range found {
		out = append(out, m.Envelope.Subject)
	}
	return out, err
}

func (b *inbox) close() { b.c.Close() }
