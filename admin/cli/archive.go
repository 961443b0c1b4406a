package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/google/uuid"

	"understudy/internal/archive"
	"understudy/internal/store"
)

type archiveCmd struct {
	Search archiveSearch `cmd:"" help:"Find messages, newest first."`
	Show   archiveShow   `cmd:"" help:"Write a message, byte for byte, to standard output."`
}

type archiveSearch struct {
	Text      []string  `arg:"" optional:"" help:"Words to find: all of them; \"a phrase\", or, -not."`
	Domain    string    `help:"Only of this domain."`
	Mailbox   string    `help:"Only of this mailbox."`
	From      string    `help:"Part of the sender."`
	To        string    `help:"Part of the To or Cc header."`
	Subject   string    `help:"Part of the subject."`
	Direction string    `enum:",inbound,outbound,internal" default:"" help:"inbound, outbound, internal."`
	After     time.Time `format:"2006-01-02" placeholder:"DAY" help:"Received on this day (UTC) or later."`
	Before    time.Time `format:"2006-01-02" placeholder:"DAY" help:"Received before this day (UTC)."`
	Limit     int       `default:"50" help:"How many messages at most."`
}

// Run finds messages.
func (c *archiveSearch) Run(e *env) error {
	if c.Limit < 1 || c.Limit > 100_000 {
		return usage("limit %d; it is between 1 and 100000", c.Limit)
	}
	f := store.MessageFilter{Access: store.Access{All: true}, Text: strings.Join(c.Text, " "), From: c.From, To: c.To,
		Subject: c.Subject, Direction: c.Direction, After: c.After, Before: c.Before}
	if c.Mailbox != "" {
		addr, err := mailboxAddress(c.Mailbox)
		if err != nil {
			return err
		}
		f.Mailbox = addr
	}
	if c.Domain != "" {
		name, err := domainName(c.Domain)
		if err != nil {
			return err
		}
		f.Access = store.Access{Domains: []string{name}}
	}
	s, err := e.open()
	if err != nil {
		return err
	}
	found := []store.MessageRow{}
	for len(found) < c.Limit {
		f.Limit = min(c.Limit-len(found), 500)
		page, next, err := s.SearchMessages(e.ctx, f)
		if err != nil {
			return err
		}
		found = append(found, page...)
		if next == nil {
			break
		}
		f.Cursor = *next
	}
	rows := make([]string, len(found))
	for i, m := range found {
		rows[i] = fmt.Sprintf("%s\t%s\t%s\t%s\t%d\t%s", m.ID, stamp(m.Received), m.Direction, oneLine(m.FromHeader), m.Size, oneLine(m.Subject))
	}
	return e.table(found, "ID\tRECEIVED\tDIRECTION\tFROM\tSIZE\tSUBJECT", rows)
}

// oneLine makes foreign text harmless for a terminal and a table.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}

type archiveShow struct {
	ID string `arg:"" help:"The message's id (its X-Understudy-Id header)."`
}

// Run writes a message; with --json what the index knows of it.
func (c *archiveShow) Run(e *env) error {
	id, err := uuid.Parse(c.ID)
	if err != nil {
		return usage("%q is no message id", c.ID)
	}
	s, err := e.open()
	if err != nil {
		return err
	}
	m, err := s.Message(e.ctx, store.Access{All: true}, id)
	if err != nil {
		return err
	}
	if e.json {
		return e.print(m, "")
	}
	record, err := archive.ReadRecord(e.settings.ArchiveDirectory, archive.Ref{Segment: m.Segment, Offset: m.Offset, Length: m.Length})
	if err != nil {
		return err
	}
	defer record.Close()
	if _, err := io.Copy(e.out, record.Body); err != nil {
		return fmt.Errorf("write message %s: %w", id, err)
	}
	return nil
}
