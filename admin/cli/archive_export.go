package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/schollz/progressbar/v3"

	"understudy/internal/archive"
	"understudy/internal/archive/ship"
	"understudy/internal/mbox"
	"understudy/internal/query"
	"understudy/internal/store"
)

type archiveExport struct {
	Query   []string `arg:"" optional:"" help:"What to export, as for search; nothing: all that is in the archive, shipped segments too."`
	Format  string   `enum:"mbox,maildir,tar" required:"" help:"mbox, maildir or tar. mbox (mboxrd) has LF line ends; the others keep every byte."`
	Output  string   `short:"o" required:"" placeholder:"PATH" help:"File or Maildir to make; \"-\" is standard output (not for maildir)."`
	Mailbox string   `help:"Only of this mailbox."`
	Domain  string   `help:"Only of this domain."`
}

// Help is shown by --help.
func (c *archiveExport) Help() string {
	return `tar: entries ID.eml with the envelope in pax keywords UNDERSTUDY.*, as docs/archive-format.md describes.
maildir: one file a message, its time is when it was received.
mbox: a message's lines that begin with any number of ">" and "From " get one ">" more (mboxrd), CRLF becomes LF.`
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
	var s *store.Store
	if all { // then the database is not needed
		e.settings, err = loadConfig(e.config)
	} else {
		s, err = e.openUnbounded()
	}
	if err != nil {
		return err
	}
	reader, err := e.settings.archive()
	if err != nil {
		return err
	}
	out, finish, err := c.open(e)
	if err != nil {
		return err
	}
	x := &exporter{env: e, reader: reader, sink: out, result: exportResult{Output: c.Output}}
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
	if c.Mailbox != "" {
		if f.Mailbox, err = mailboxAddress(c.Mailbox); err != nil {
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
		return os.Rename(partial, c.Output)
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
	return newSink(c.Format, f), finish, nil
}

// exporter moves messages to a sink.
type exporter struct {
	env    *env
	reader ship.Reader
	sink   sink
	result exportResult
}

// put exports one record. An error is of the output.
func (x *exporter) put(rec *archive.Record) error {
	if err := x.sink.add(rec); err != nil {
		return err
	}
	x.result.Messages++
	x.result.Bytes += rec.Size
	return nil
}

// segments exports everything, oldest segment first.
func (x *exporter) segments() error {
	list, err := x.reader.Segments(x.env.ctx)
	if err != nil {
		return err
	}
	total := int64(0)
	for _, seg := range list {
		total += seg.Size
	}
	bar := x.env.bar(total, "exporting", true)
	defer bar.Finish() //nolint:errcheck // only shows
	for _, seg := range list {
		if err := x.segment(seg.Name, bar); err != nil {
			return err
		}
	}
	return nil
}

func (x *exporter) segment(name string, bar *progressbar.ProgressBar) error {
	r, err := x.reader.OpenSegment(x.env.ctx, name)
	if errors.Is(err, os.ErrNotExist) {
		return nil // expired meanwhile
	}
	if err != nil {
		return err
	}
	defer r.Close()
	for {
		if err := x.env.ctx.Err(); err != nil {
			return err
		}
		at, damaged := r.Offset(), r.Damaged()
		rec, err := r.Next()
		if r.Damaged() > damaged {
			x.result.Unreadable++
		}
		bar.Add64(r.Offset() - at) //nolint:errcheck // only shows
		if err == io.EOF {
			return nil
		}
		if errors.Is(err, archive.ErrEncrypted) {
			x.result.Encrypted++
			continue
		}
		if err != nil {
			return err
		}
		if err := x.put(rec); err != nil {
			return err
		}
	}
}

// found exports what a search finds, newest first.
func (x *exporter) found(s *store.Store, f store.MessageFilter) error {
	bar := x.env.bar(-1, "exporting", false)
	defer bar.Finish() //nolint:errcheck // only shows
	for {
		page, next, err := s.SearchMessages(x.env.ctx, f)
		if err != nil {
			return err
		}
		for _, m := range page {
			rec, err := x.reader.ReadRecord(x.env.ctx, archive.Ref{Segment: m.Segment, Offset: m.Offset, Length: m.Length})
			if errors.Is(err, archive.ErrEncrypted) {
				x.result.Encrypted++
				continue
			}
			if err != nil {
				x.result.Unreadable++
				x.env.progress("message %s cannot be read: %v", m.ID, err)
				continue
			}
			if err := errors.Join(x.put(rec), rec.Close()); err != nil {
				return err
			}
			bar.Add(1) //nolint:errcheck // only shows
		}
		if next == nil {
			return nil
		}
		f.Cursor = *next
	}
}
