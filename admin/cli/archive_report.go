package cli

import (
	"fmt"
	"strings"

	"understudy/internal/archive"
)

const shownFaults = 20 // in text; --json has up to maxFaults

// verifyReport is what was found. Lists hold at most maxFaults entries.
type verifyReport struct {
	Segments          int      `json:"segments"`
	Records           int64    `json:"records"`
	Bytes             int64    `json:"bytes"`
	Damaged           int64    `json:"damaged_bytes"`
	Encrypted         int64    `json:"content_not_checked"`            // records that no identity decrypts: lengths and checksums are right
	NewerVersion      uint16   `json:"newer_format_version,omitempty"` // met, and not readable by this program
	Faults            []fault  `json:"faults"`
	FaultCount        int64    `json:"fault_count"`
	Rows              int64    `json:"index_rows"`
	RowsWithoutRecord int64    `json:"rows_without_record"`
	RowsDiffering     int64    `json:"rows_differing"`       // of records that say something else, or for mailboxes that do not have the message
	RowsWithoutBox    int64    `json:"rows_without_mailbox"` // of messages that a mailbox has and does not find
	RowsWithoutWords  int64    `json:"rows_without_words"`   // of messages that are not found by all their words
	Compared          int64    `json:"messages_looked_up"`   // in the index, by what the envelope says
	ComparedWhole     int64    `json:"looked_up_by_words"`   // of them, by all their words
	RowsExpired       int64    `json:"expired_rows"`         // past retention, so rightly without a record while their day stays
	RecordsWithoutRow int64    `json:"records_without_row"`
	Shipped           int64    `json:"rows_of_shipped_segments"` // not on this host: not compared
	Elsewhere         int64    `json:"rows_of_other_gateways"`   // the same
	Expired           int64    `json:"expired_records"`          // past retention, so rightly without a row
	Duplicates        int64    `json:"duplicate_records"`        // of a message that has a row for another record
	NotYetIndexed     int64    `json:"not_yet_indexed"`          // the worker has not come there yet
	BadCopies         int64    `json:"bad_copies"`               // in the bucket, of segments that are on this host
	LostObjects       int64    `json:"lost_objects"`             // verified in the bucket once, and not there any more
	Unreadable        int64    `json:"unreadable_segments"`      // or of which a part cannot be read; their rows are not compared
	Misplaced         int64    `json:"misplaced_segments"`       // in the archive's directory, where nothing reads them
	Foreign           []string `json:"foreign_files"`            // some of those there that are no segments
	ForeignCount      int64    `json:"foreign_file_count"`
	IndexChecked      bool     `json:"index_checked"`
	BucketChecked     bool     `json:"bucket_checked"` // the bucket's own list was compared
	OK                bool     `json:"ok"`
}

func (r *verifyReport) show(e *env) error {
	for _, f := range r.Faults[:min(len(r.Faults), shownFaults)] {
		fmt.Fprintf(e.out, "%s at %d, %d bytes: %s\n", f.Segment, f.Offset, f.Length, oneLine(f.Why+" "+f.ID))
	}
	if more := r.FaultCount - shownFaults; more > 0 {
		fmt.Fprintf(e.out, "... and %d more faults (--json shows up to %d)\n", more, maxFaults)
	}
	fmt.Fprintf(e.out, "segments: %d, records: %d good, %d bytes, %d of them damaged\n", r.Segments, r.Records, r.Bytes, r.Damaged)
	if r.ForeignCount > 0 {
		fmt.Fprintf(e.out, "%d files in the archive's directory are none of its own, and read by nobody: %s\n", r.ForeignCount, oneLine(strings.Join(r.Foreign, ", ")))
	}
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
	case r.Unreadable > 0:
		text += "; segments cannot be read: run this as root or as the owner of the archive; if it is the disk, put a backup's file, or the bucket's, in their place"
	case r.NewerVersion > 0:
		text += fmt.Sprintf("; a later release wrote records of format version %d: update this program, then: archive reindex --missing", r.NewerVersion)
	case r.Damaged > 0:
		text += "; damaged messages are lost unless a backup or the bucket has the segment: put that file in its place (stop the milter for an open one), then: archive reindex --missing"
	case r.Misplaced > 0:
		text += "; segments lie where they are not read: move them to their places, then: archive reindex --missing"
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
