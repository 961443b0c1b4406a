package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"understudy/internal/archive"
	"understudy/internal/store"
)

// Messages that are appended at once, and share their syncs. Until then they
// lie in files without a name, where /tmp may be memory.
const (
	importBatch = 100
	importBytes = 64 << 20
)

type archiveImport struct {
	Path      string `arg:"" help:"An mbox file, a Maildir (with its folders), or an .eml file or directory of them."`
	Format    string `enum:"mbox,maildir,eml" required:"" help:"mbox, maildir or eml."`
	Mailbox   string `required:"" placeholder:"ADDRESS" help:"The registered mailbox whose mail this is."`
	Direction string `enum:"inbound,outbound" default:"inbound" help:"inbound or outbound."`
	DryRun    bool   `help:"Read everything, change nothing."`
}

// Help is shown by --help.
func (c *archiveImport) Help() string {
	return `Files may be compressed with gzip or zstd. Flags of a Maildir are not kept; its folders are read, links to other directories are not followed.
A message was received when its topmost Received field (outbound: Date) says, else its mbox line, else its file; never in the future.
Messages past the domain's retention are left out, unless the mailbox or its domain is on legal hold. An import that was stopped can be repeated: what is there already is left out.`
}

type importResult struct {
	Imported   int64      `json:"imported"`
	Duplicates int64      `json:"duplicates"` // in the archive already, or twice in the source
	TooOld     int64      `json:"too_old"`    // past the retention of the domain, and not held
	Failed     int64      `json:"failed"`
	Bytes      int64      `json:"bytes"` // of the messages imported
	Oldest     *time.Time `json:"oldest,omitempty"`
	Newest     *time.Time `json:"newest,omitempty"`
	DryRun     bool       `json:"dry_run"`
}

// importer is one import at work.
type importer struct {
	env       *env
	store     *store.Store
	writer    *archive.Writer // nil: dry run
	mailbox   string
	direction archive.Direction
	begin     time.Time
	seen      map[uuid.UUID]bool // in this source, or in the log but not in the index yet
	batch     []arrival
	held      int64 // bytes of the batch
	result    importResult
}

// arrival is a message with its envelope.
type arrival struct {
	*incoming
	envelope *archive.Envelope
}

// Run appends the messages of a mailbox that was elsewhere to the archive.
func (c *archiveImport) Run(e *env) error {
	addr, err := mailboxAddress(c.Mailbox)
	if err != nil {
		return err
	}
	s, err := e.openUnbounded()
	if err != nil {
		return err
	}
	m, err := s.Mailbox(e.ctx, store.Everything, addr)
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("there is no mailbox %s (of an alias, name its mailbox); add it first: mailbox add %s", addr, addr)
	}
	if err != nil {
		return err
	}
	d, err := s.Domain(e.ctx, store.Everything, m.Domain)
	if err != nil {
		return err
	}
	im := &importer{env: e, store: s, mailbox: addr, direction: archive.Direction(c.Direction), begin: time.Now(),
		seen: map[uuid.UUID]bool{}, result: importResult{DryRun: c.DryRun}}
	src := &source{format: c.Format, path: c.Path, failed: im.failed}
	if err := src.find(); err != nil {
		return fmt.Errorf("import: %w", err)
	}
	unlock, err := im.open(c.DryRun)
	if err != nil {
		return err
	}
	defer unlock()
	bar := e.bar(src.size, "importing", true)
	src.progress = func(n int64) { bar.Add64(n) } //nolint:errcheck // only shows
	err = src.each(e.ctx, im.add)
	if err == nil {
		err = im.flush()
	}
	bar.Finish() //nolint:errcheck // only shows
	if im.writer != nil {
		err = errors.Join(err, im.writer.Close())
	}
	return im.tell(err, d.RetentionDays)
}

func (im *importer) tell(err error, days int) error {
	r := im.result
	if err != nil {
		return fmt.Errorf("import stopped after %d messages; repeat it, what is in the archive is left out: %w", r.Imported, err)
	}
	did, then := "imported", "The worker indexes them within seconds; then searches find them."
	if r.DryRun {
		did, then = "to import", "Nothing was changed (--dry-run)."
	}
	if err := im.env.print(r, "%d messages %s, %d bytes; %d left out that the archive has, %d past the retention of %d days; %d failed\n%s", r.Imported, did, r.Bytes, r.Duplicates, r.TooOld, days, r.Failed, then); err != nil {
		return err
	}
	if r.Failed > 0 {
		return fmt.Errorf("%d messages could not be imported; mend what is said above and repeat the import", r.Failed)
	}
	return nil
}

// open locks out other imports, finds what the index does not tell yet, and
// opens a writer, which has segments of its own beside the milter's.
func (im *importer) open(dryRun bool) (unlock func(), err error) {
	dir := im.env.settings.ArchiveDirectory
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open archive: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(errors.New("another import is running; wait for its end"), f.Close())
	}
	if err := im.unindexed(dir); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if !dryRun {
		im.writer, err = im.openWriter(dir)
		if errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("%w (run the import as root, or as the owner of %s)", err, dir)
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { f.Close() }, nil
}

func (im *importer) openWriter(dir string) (*archive.Writer, error) {
	recipients, err := archive.ParseRecipients(im.env.settings.Recipients)
	if err != nil {
		return nil, err
	}
	return archive.OpenWriter(dir, archive.Options{Recipients: recipients, Compress: rate.Inf})
}

func (im *importer) failed(name string, err error) {
	im.result.Failed++
	im.env.progress("not imported: %s: %v", name, err)
}

// add takes a message into the batch, or leaves it out.
func (im *importer) add(m *incoming) error {
	a := arrival{m, im.envelope(m)}
	switch {
	case im.seen[a.envelope.ID]:
		im.result.Duplicates++
	default:
		im.seen[a.envelope.ID] = true
		im.held += m.spool.Size()
		if im.batch = append(im.batch, a); len(im.batch) < importBatch && im.held < importBytes {
			return nil
		}
		return im.flush()
	}
	return m.spool.Close()
}

// flush appends the batch but for what the index has, and what would expire at
// once.
func (im *importer) flush() error {
	batch := im.batch
	im.batch, im.held = nil, 0
	defer func() {
		for _, a := range batch {
			a.spool.Close()
		}
	}()
	ids, boxes, times := make([]uuid.UUID, len(batch)), make([]string, len(batch)), make([]time.Time, len(batch))
	for i, a := range batch {
		ids[i], boxes[i], times[i] = a.envelope.ID, im.mailbox, a.envelope.Received
	}
	needed, err := im.store.Needed(im.env.ctx, im.begin, boxes, times)
	if err != nil {
		return err
	}
	known, err := im.store.KnownMessages(im.env.ctx, ids)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(im.env.ctx)
	for i, a := range batch {
		if !needed[i] {
			im.result.TooOld++
			continue
		}
		if known[a.envelope.ID] {
			im.result.Duplicates++
			continue
		}
		im.count(a)
		if im.writer != nil {
			g.Go(func() error { _, err := im.writer.Append(ctx, a.envelope, a.spool); return err })
		}
	}
	return g.Wait()
}

func (im *importer) count(a arrival) {
	im.result.Imported++
	im.result.Bytes += a.spool.Size()
	at := a.envelope.Received
	if im.result.Oldest == nil || at.Before(*im.result.Oldest) {
		im.result.Oldest = &at
	}
	if im.result.Newest == nil || at.After(*im.result.Newest) {
		im.result.Newest = &at
	}
}
