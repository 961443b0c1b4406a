package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/google/uuid"

	"understudy/internal/archive"
	"understudy/internal/query"
	"understudy/internal/store"
)

type archiveCmd struct {
	Search    archiveSearch    `cmd:"" help:"Find messages, newest first."`
	Show      archiveShow      `cmd:"" help:"Write a message, byte for byte, to standard output; noted in the audit."`
	Verify    archiveVerify    `cmd:"" help:"Check every record of every segment, and the index, both ways."`
	Reindex   archiveReindex   `cmd:"" help:"Have the index built again from the segments."`
	Export    archiveExport    `cmd:"" help:"Write messages as mbox, Maildir or tar."`
	Import    archiveImport    `cmd:"" help:"Add the old mail of a mailbox: mbox, Maildir or eml files."`
	Redeliver archiveRedeliver `cmd:"" help:"Deliver messages again, to the server that is active now for each mailbox."`
}

type archiveSearch struct {
	Query   []string `arg:"" optional:"" help:"What to find, as in docs/search.md; write -- before a query with -words."`
	Domain  string   `help:"Only what this domain's admin sees."`
	Mailbox string   `help:"Only of this mailbox."`
	Limit   int      `default:"50" help:"How many messages at most."`
}

// Run finds messages.
func (c *archiveSearch) Run(e *env) error {
	if c.Limit < 1 || c.Limit > 100_000 {
		return usage("limit %d; it is between 1 and 100000", c.Limit)
	}
	f := store.MessageFilter{Access: store.Access{All: true}}
	text := strings.Join(c.Query, " ")
	var wrong *query.Error
	if err := f.Ask(text); errors.As(err, &wrong) {
		return usage("the query\n%s", wrong.Caret(text))
	}
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
	reader, err := e.settings.archive()
	if err != nil {
		return err
	}
	record, err := reader.ReadRecord(e.ctx, archive.Ref{Segment: m.Segment, Offset: m.Offset, Length: m.Length})
	if err != nil {
		return err
	}
	defer record.Close()
	if err := s.RecordLook(e.ctx, actor(), store.ActionDownload, store.Access{All: true}, m, "command line"); err != nil {
		return err
	}
	if _, err := io.Copy(e.out, record.Body); err != nil {
		return fmt.Errorf("write message %s: %w", id, err)
	}
	return nil
}
