package cli

import (
	"cmp"
	"fmt"
	"slices"

	"understudy/internal/archive"
)

const shownFaults = 20 // in text; --json has up to maxFaults

type archiveVerify struct {
	NoIndex bool `help:"Check the segments alone; the database is not asked."`
	Words   bool `help:"Look up each word of each message in the index; takes about as long as building it anew."`
	Shipped bool `help:"Read the bucket's segments too, also of those that are here: all of the bucket is downloaded."`
}

// Help is shown by --help.
func (c *archiveVerify) Help() string {
	return `Without --shipped the bucket is only asked for its list, and each segment that was shipped must be in it.
Of the index, the rows of messages are compared (place, time, sender, recipients, direction, size; not what is taken from the header, as the subject), the
mailboxes that see them, and whether searches find each message by its mailboxes, sender, size and direction, and one in twenty, at random, by each of its words;
with --words all. Where in a message a word stands is not compared. What the index has of messages that are
gone is no fault: it goes with its day.`
}

// Run reads every record of every segment on this host, and with --shipped in
// the bucket, and compares with the index both ways. It changes nothing.
func (c *archiveVerify) Run(e *env) error {
	check := &checker{deep: true, words: c.Words}
	var err error
	if c.NoIndex {
		e.settings, err = loadConfig(e.config)
	} else {
		check.store, err = e.openUnbounded()
	}
	if err != nil {
		return err
	}
	if check.archive, err = e.settings.archive(); err != nil {
		return err
	}
	if check.bucket = check.archive.Bucket; !c.Shipped {
		check.archive.Bucket = nil
	}
	if _, err := check.check(e); err != nil {
		return err
	}
	r := &check.report
	r.OK = r.FaultCount == 0
	slices.SortFunc(r.Faults, func(a, b fault) int {
		return cmp.Or(cmp.Compare(a.Segment, b.Segment), cmp.Compare(a.Offset, b.Offset))
	})
	if e.json {
		err = e.print(r, "")
	} else {
		err = r.show(e)
	}
	if err == nil && !r.OK {
		err = r.verdict()
	}
	return err
}

func (r *verifyReport) show(e *env) error {
	for _, f := range r.Faults[:min(len(r.Faults), shownFaults)] {
		fmt.Fprintf(e.out, "%s at %d, %d bytes: %s\n", f.Segment, f.Offset, f.Length, oneLine(f.Why+" "+f.ID))
	}
	if more := r.FaultCount - shownFaults; more > 0 {
		fmt.Fprintf(e.out, "... and %d more faults (--json shows up to %d)\n", more, maxFaults)
	}
	fmt.Fprintf(e.out, "segments: %d, records: %d good, %d bytes, %d of them damaged\n", r.Segments, r.Records, r.Bytes, r.Damaged)
	if r.Encrypted > 0 {
		fmt.Fprintf(e.out, "%d records are whole, but their content was not checked: they are %v\n", r.Encrypted, archive.ErrEncrypted)
	}
	if !r.IndexChecked {
		return nil
	}
	_, err := fmt.Fprintf(e.out, "index: %d rows; %d without a record, %d past retention without one, %d differing from their records, %d without a mailbox, %d without some words, %d of shipped segments and %d of other gateways not compared\n"+
		"records without a row: %d missing, %d not indexed yet, %d past retention, %d duplicates\n",
		r.Rows, r.RowsWithoutRecord, r.RowsExpired, r.RowsDiffering, r.RowsWithoutBox, r.RowsWithoutWords, r.Shipped, r.Elsewhere, r.RecordsWithoutRow, r.NotYetIndexed, r.Expired, r.Duplicates)
	if err == nil {
		_, err = fmt.Fprintf(e.out, "searches: %d messages looked up, %d of them by all their words\n", r.Compared, r.ComparedWhole)
	}
	return err
}

// verdict says what to do about what is wrong.
func (r *verifyReport) verdict() error {
	text := fmt.Sprintf("the archive has %d faults", r.FaultCount)
	switch {
	case r.NewerVersion > 0:
		text += fmt.Sprintf("; a later release wrote records of format version %d: update this program, then: archive reindex --missing", r.NewerVersion)
	case r.Damaged > 0:
		text += "; damaged messages are lost unless a backup or the bucket has the segment: put that file in its place (stop the milter for an open one), then: archive reindex --missing"
	case r.LostObjects > 0:
		text += "; the bucket has lost segments: restore these objects, with the store's versions or a backup; those that are still on a gateway's disk are sent again when keep_local has passed; what cannot be restored leaves the index by: archive reindex --all"
	case r.BadCopies > 0:
		text += "; of some segments the bucket's copy is not as the one here: if the one here has no fault, delete that object, and it is sent again when keep_local has passed"
	case r.RowsWithoutRecord > 0:
		text += "; the index names records that are not there: if their segments lie elsewhere, bring them back, else: archive reindex --all"
	case r.RowsDiffering > 0:
		text += "; nothing is lost, but rows of the index are not as the archive has them (who wrote into the database?): archive reindex --all"
	case r.RowsWithoutBox > 0:
		text += "; nothing is lost, but some mailboxes do not find messages: archive reindex --missing"
	case r.RowsWithoutWords > 0:
		text += "; nothing is lost, but searches do not find messages by all their words: archive reindex --missing"
	case r.RecordsWithoutRow > 0:
		text += "; nothing is lost, the index lacks messages: archive reindex --missing"
	}
	return fmt.Errorf("%s", text)
}
