package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"understudy/internal/archive"
	"understudy/internal/mbox"
	"understudy/internal/query"
	"understudy/internal/store"
)

type archiveExport struct {
	Query   []string `arg:"" optional:"" help:"What to export, as for search; nothing: all that is in the archive, shipped segments too."`
	Format  string   `enum:"mbox,maildir,tar" required:"" help:"mbox, maildir or tar. mbox (mboxrd) has LF line ends; the others keep every byte but blind recipients (below)."`
	Output  string   `short:"o" required:"" placeholder:"PATH" help:"File or Maildir to make; \"-\" is standard output (not for maildir)."`
	Mailbox string   `help:"Only of this mailbox, as its owner may see it."`
	Domain  string   `help:"Only of this domain, as its admin may see it."`
}

// Help is shown by --help.
func (c *archiveExport) Help() string {
	return `tar: entries ID.eml with the envelope in pax keywords UNDERSTUDY.*, as docs/archive-format.md describes.
maildir: one file a message, its time is when it was received.
mbox: a message's lines that begin with any number of ">" and "From " get one ">" more (mboxrd), CRLF becomes LF.

With --mailbox or --domain the export can be given away: Bcc fields are left out unless the mailbox, or the domain, sent the message, and the envelope
names of the recipients only those of the domain (all, if it sent the message; none with --mailbox). Without, all is told; with
nothing to search for also what is past its retention and not removed yet. Each export is noted in the audit.`
}

type exportResult struct {
	Messages   int64  `json:"messages"`
	Bytes      int64  `json:"bytes"`
	Unreadable int64  `json:"unreadable"` // messages, or damaged places in segments
	Encrypted  int64  `json:"encrypted"`  // without the key, left out
	Output     string `json:"output"`
}

// Run writes messages in a format that other programs read.
func (c *archiveExport) Run(e *env) error {
	filter, all, err := c.filter()
	if err != nil {
		return err
	}
	if e.settings, err = loadConfig(e.config); err != nil {
		return err
	}
	reader, err := e.settings.archive()
	if err != nil {
		return err
	}
	s, err := e.openUnbounded()
	if err != nil && !all {
		return err
	}
	x := &exporter{env: e, reader: reader, result: exportResult{Output: c.Output}, detail: strings.TrimSpace(c.Format + " " + strings.Join(c.Query, " "))}
	if all { // the database is not needed
		x.noteAll(s, err)
	}
	out, finish, err := c.open(e)
	if err != nil {
		return err
	}
	x.sink = out
	if all {
		err = x.segments()
	} else {
		err = x.found(s, filter)
	}
	if err = finish(errors.Join(err, out.close())); err != nil {
		return fmt.Errorf("export to %s: %w", c.Output, err)
	}
	return c.tell(e, x.result)
}

func (c *archiveExport) tell(e *env, r exportResult) error {
	if c.Output == "-" {
		e.progress("%d messages exported, %d bytes", r.Messages, r.Bytes)
	} else if err := e.print(r, "%d messages exported to %s, %d bytes", r.Messages, r.Output, r.Bytes); err != nil {
		return err
	}
	if r.Encrypted > 0 {
		return fmt.Errorf("%d messages are not in %s: they are %w", r.Encrypted, c.Output, archive.ErrEncrypted)
	}
	if r.Unreadable > 0 {
		return fmt.Errorf("%d messages or damaged places could not be read and are not in %s; for the places run: archive verify", r.Unreadable, c.Output)
	}
	return nil
}

// filter makes the search; all says that there is nothing to search for.
func (c *archiveExport) filter() (f store.MessageFilter, all bool, err error) {
	f = store.MessageFilter{Access: store.Access{All: true}, Limit: 500}
	text := strings.TrimSpace(strings.Join(c.Query, " "))
	if text != "" {
		var wrong *query.Error
		if err := f.Ask(text); errors.As(err, &wrong) {
			return f, false, usage("the query\n%s", wrong.Caret(text))
		} else if err != nil {
			return f, false, err
		}
	}
	if c.Domain != "" {
		name, err := domainName(c.Domain)
		if err != nil {
			return f, false, err
		}
		f.Access = store.Access{Domains: []string{name}}
	}
	if c.Mailbox != "" {
		box, err := mailboxAddress(c.Mailbox)
		if err != nil {
			return f, false, err
		}
		if c.Domain != "" && !strings.HasSuffix(box, "@"+f.Access.Domains[0]) {
			return f, false, usage("%s is not of the domain %s", box, f.Access.Domains[0])
		}
		f.Access = store.Access{Mailbox: box}
	}
	return f, text == "" && c.Mailbox == "" && c.Domain == "", nil
}

// open makes the output under another name, which finish puts right.
func (c *archiveExport) open(e *env) (out sink, finish func(error) error, err error) {
	if c.Output == "-" {
		if c.Format == "maildir" {
			return nil, nil, usage("a Maildir is a directory: give --output a path")
		}
		return newSink(c.Format, nopCloser{e.out}), func(err error) error { return err }, nil
	}
	if _, err := os.Lstat(c.Output); err == nil {
		return nil, nil, fmt.Errorf("export: %s is there already; remove it or choose another path", c.Output)
	}
	partial := c.Output + ".partial"
	finish = func(err error) error {
		if err != nil {
			return errors.Join(err, os.RemoveAll(partial))
		}
		if err := os.Rename(partial, c.Output); err != nil {
			return err
		}
		dir, err := os.Open(filepath.Dir(c.Output))
		if err != nil {
			return err
		}
		return errors.Join(dir.Sync(), dir.Close())
	}
	if c.Format == "maildir" {
		dir, err := mbox.NewMaildir(partial)
		if err != nil {
			return nil, nil, fmt.Errorf("export: %w (left from an export that was stopped? remove it)", err)
		}
		return maildirSink{dir}, finish, nil
	}
	f, err := os.OpenFile(partial, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("export: %w (left from an export that was stopped? remove it)", err)
	}
	return newSink(c.Format, synced{f}), finish, nil
}
