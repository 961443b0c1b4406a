package cli

import (
	"cmp"
	"slices"
)

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
