package portal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// Session is an IMAP connection with one INBOX open. It is for one goroutine.
type Session struct {
	mailbox string
	imap    *imapclient.Client
	conn    net.Conn
	timeout time.Duration
	section *imap.FetchItemBodySection
}

// Open logs in as master user and opens the INBOX of a mailbox, which must
// still have the UIDVALIDITY of its listing: else ErrRenumbered.
func (c *Client) Open(ctx context.Context, mailbox string, uidValidity uint32) (*Session, error) {
	d := net.Dialer{Timeout: c.cfg.Timeout}
	conn, err := d.DialContext(ctx, "tcp", c.cfg.IMAPAddress)
	if err != nil {
		return nil, fmt.Errorf("open INBOX of %s: %w", mailbox, err)
	}
	// go-imap's deadlines would count the time in which nobody reads the
	// content of a message: every method here watches over its own.
	s := &Session{mailbox: mailbox, conn: conn, timeout: c.cfg.Timeout, imap: imapclient.New(noDeadline{conn}, nil),
		section: &imap.FetchItemBodySection{Peek: true}}
	err = s.within(ctx, func() error {
		if err := s.imap.Login(mailbox+"*"+c.cfg.MasterUser, c.cfg.MasterPassword).Wait(); err != nil {
			return fmt.Errorf("master login: %w", err)
		}
		data, err := s.imap.Select("INBOX", nil).Wait()
		if err == nil && data.UIDValidity != uidValidity {
			err = ErrRenumbered
		}
		return err
	})
	if err != nil {
		s.imap.Close() //nolint:errcheck // the error that matters is err
		return nil, fmt.Errorf("open INBOX of %s: %w", mailbox, err)
	}
	return s, nil
}

// within runs f, whose commands fail when ctx ends or the timeout passes:
// then the connection is closed, and the session with it.
func (s *Session) within(ctx context.Context, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { s.conn.Close() })
	err := f()
	if !stop() {
		return fmt.Errorf("IMAP: %w", context.Cause(ctx))
	}
	return err
}

// Fetch calls f with the content of a message, as a stream: memory does not
// grow with its size. f need not read it all. The message's flags stay as
// they are. ErrGone when the message is no longer there, or its owner has
// flagged it \Deleted meanwhile. ctx bounds the whole.
func (s *Session) Fetch(ctx context.Context, uid uint32, f func(*bufio.Reader) error) error {
	stop := context.AfterFunc(ctx, func() { s.conn.Close() })
	defer stop()
	set := imap.UIDSetNum(imap.UID(uid))
	cmd := s.imap.Fetch(set, &imap.FetchOptions{UID: true, Flags: true, BodySection: []*imap.FetchItemBodySection{s.section}})
	var found bool
	var err error
	for msg := cmd.Next(); msg != nil; msg = cmd.Next() {
		deleted := false
		for item := msg.Next(); item != nil; item = msg.Next() {
			switch item := item.(type) {
			case imapclient.FetchItemDataFlags: // Dovecot sends content last
				deleted = slices.Contains(item.Flags, imap.FlagDeleted)
			case imapclient.FetchItemDataBodySection:
				if item.Literal != nil && !found && !deleted {
					found = true
					err = f(bufio.NewReaderSize(&counted{r: item.Literal, left: item.Literal.Size()}, maxStamp))
				}
			}
		}
	}
	// f's error first: it may be the cause of what follows.
	if err = errors.Join(err, cmd.Close()); err != nil {
		return fmt.Errorf("fetch message %d of %s: %w", uid, s.mailbox, err)
	}
	if !found {
		return fmt.Errorf("fetch message %d of %s: %w", uid, s.mailbox, ErrGone)
	}
	return nil
}

// Remove expunges these messages and no other, whatever else is flagged
// \Deleted (UID EXPUNGE, RFC 4315). One that is gone already is no error.
func (s *Session) Remove(ctx context.Context, uids ...uint32) error {
	var set imap.UIDSet
	for _, u := range uids {
		set.AddNum(imap.UID(u))
	}
	err := s.within(ctx, func() error {
		flags := &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: []imap.Flag{imap.FlagDeleted}}
		if err := s.imap.Store(set, flags, nil).Close(); err != nil {
			return err
		}
		return s.imap.UIDExpunge(set).Close()
	})
	if err != nil {
		return fmt.Errorf("remove messages from INBOX of %s: %w", s.mailbox, err)
	}
	return nil
}

// Close logs out.
func (s *Session) Close() {
	s.within(context.Background(), s.imap.Logout().Wait) //nolint:errcheck // nothing depends on it
	s.imap.Close()                                       //nolint:errcheck // already closed by the server
}

// counted makes a content that ends early an error: it must never pass for a
// whole message.
type counted struct {
	r    io.Reader
	left int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.left -= int64(n)
	if errors.Is(err, io.EOF) && c.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// noDeadline ignores deadlines.
type noDeadline struct{ net.Conn }

func (noDeadline) SetDeadline(time.Time) error      { return nil }
func (noDeadline) SetReadDeadline(time.Time) error  { return nil }
func (noDeadline) SetWriteDeadline(time.Time) error { return nil }
