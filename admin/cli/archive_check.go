package cli

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"understudy/internal/archive"
	"understudy/internal/archive/ship"
	"understudy/internal/store"
)

// logRecord is a good record of the log, 48 bytes of memory each.
type logRecord struct {
	offset, length int64
	id             uuid.UUID
	digest         store.Digest
	mailboxes      uint16 // so many may see it
	expired, seen  bool   // older than its mailboxes' retention; has a row in the index
	unread         bool   // encrypted, without the key: whether it has expired is not known
}

// logSegment is a segment as it was read.
type logSegment struct {
	records []logRecord // by offset
	end     int64       // how far it was read
	open    bool

	unreadable bool // not to its end: of what follows nothing is known
	lacks      bool // the index has some of its messages, but not all of them

	unchecked int64 // records that could not be decrypted
}

// fault is something wrong at a place of the archive.
type fault struct {
	Segment string `json:"segment"`
	Offset  int64  `json:"offset"`
	Length  int64  `json:"length"`
	ID      string `json:"id,omitempty"`
	Why     string `json:"why"`
}

// checker reads the log and compares it with the index.
type checker struct {
	archive ship.Reader  // what is read: without its bucket, the segments of this host alone
	bucket  *ship.Bucket // says what is shipped; may be nil
	host    string       // this gateway's name
	deep    bool         // decompress every message
	words   bool         // look all their words up in the index
	store   *store.Store // nil: the index is not looked at

	begin    time.Time
	mu       sync.Mutex
	segments map[string]*logSegment
	before   map[string]store.Checkpoint // from before the log was read
	gone     map[string]bool             // removed while we looked
	report   verifyReport
}

const maxFaults = 1000

func (c *checker) fault(f fault) {
	c.report.FaultCount++
	if len(c.report.Faults) < maxFaults {
		c.report.Faults = append(c.report.Faults, f)
	}
}

// row looks for the record of an index row.
func (c *checker) row(r store.RecordRow, shipped map[string]int64) {
	c.report.Rows++
	seg := c.segments[r.Segment]
	size, away := shipped[r.Segment]
	switch {
	case seg != nil:
		if seg.open && r.Offset >= seg.end {
			return // came later
		}
		i, found := slices.BinarySearchFunc(seg.records, r.Offset, func(l logRecord, at int64) int { return int(l.offset - at) })
		if found && seg.records[i].id == r.ID && seg.records[i].length == r.Length {
			seg.records[i].seen = true
			if !seg.records[i].unread {
				c.content(r, seg, &seg.records[i])
			}
			return
		}
		if seg.unreadable && r.Offset >= seg.end {
			return
		}
	case away && r.Offset+r.Length <= size:
		c.report.Shipped++
		return
	case away: // the object is too short
	case c.before[r.Segment].Host != "" && c.before[r.Segment].Host != c.host:
		c.report.Elsewhere++
		return
	case r.Kept:
		if started, err := archive.Started(r.Segment); c.gone[r.Segment] || err == nil && started.After(c.begin.Add(-time.Minute)) {
			return
		}
	}
	if !r.Kept {
		c.report.RowsExpired++
		return
	}
	c.report.RowsWithoutRecord++
	c.fault(fault{Segment: r.Segment, Offset: r.Offset, Length: r.Length, ID: r.ID.String(), Why: "in the index, but there is no such record"})
}

// content sees that all who may see a message find it, and nobody else, and
// that its row says what the record does.
func (c *checker) content(r store.RecordRow, seg *logSegment, want *logRecord) {
	f := fault{Segment: r.Segment, Offset: r.Offset, Length: r.Length, ID: r.ID.String()}
	switch {
	case r.Digest.Envelope != want.digest.Envelope:
		f.Why = "in the index, but not with the sender, recipients, time, direction or size that it has"
	case r.Mailboxes < int(want.mailboxes):
		seg.lacks = true
		c.report.RowsWithoutBox++
		f.Why = fmt.Sprintf("in the index for %d of the %d mailboxes that have it", r.Mailboxes, want.mailboxes)
		c.fault(f)
		return
	case r.Digest.Mailboxes != want.digest.Mailboxes:
		f.Why = "in the index for mailboxes that do not have it"
	default:
		return
	}
	c.report.RowsDiffering++
	c.fault(f)
}

// missing returns the segments that have records without a row, although the
// index is past them (by the checkpoints from before the log was read), or with
// one that lacks mailboxes or words.
func (c *checker) missing(ctx context.Context) ([]string, error) {
	var out []string
	for name, seg := range c.segments {
		lost := map[uuid.UUID]logRecord{}
		for _, r := range seg.records {
			switch {
			case r.seen, r.unread:
			case r.expired:
				c.report.Expired++
			case r.offset >= c.before[name].Indexed:
				c.report.NotYetIndexed++
			default:
				lost[r.id] = r
			}
		}
		if len(lost) == 0 && !seg.lacks {
			continue
		}
		ids := make([]uuid.UUID, 0, len(lost))
		for id := range lost {
			ids = append(ids, id)
		}
		elsewhere, err := c.store.KnownMessages(ctx, ids)
		if err != nil {
			return nil, err
		}
		for id := range elsewhere {
			c.report.Duplicates++
			delete(lost, id)
		}
		for id, r := range lost {
			c.report.RecordsWithoutRow++
			c.fault(fault{Segment: name, Offset: r.offset, Length: r.length, ID: id.String(), Why: "not in the index"})
		}
		if len(lost) > 0 || seg.lacks {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out, nil
}

// check reads the log and, with a store, compares it with the index. It
// returns the segments of which the index lacks something.
func (c *checker) check(e *env) ([]string, error) {
	c.begin, c.segments, c.gone, c.host = time.Now(), map[string]*logSegment{}, map[string]bool{}, e.settings.GatewayName()
	c.report.Faults, c.report.Foreign = []fault{}, []string{}
	if c.store != nil {
		var err error
		if c.before, err = c.store.SegmentOffsets(e.ctx); err != nil {
			return nil, err
		}
	}
	list, err := c.archive.Segments(e.ctx)
	if err != nil {
		return nil, err
	}
	total := int64(0)
	for _, seg := range list {
		total += seg.Size
		if seg.Shipped && seg.Path != "" { // the copy is read too
			total += seg.Size
		}
	}
	bar := e.bar(total, "reading segments", true)
	if err := c.strangers(); err != nil {
		return nil, err
	}
	if err := c.readLog(e.ctx, bar, list); err != nil {
		return nil, fmt.Errorf("read the archive: %w", err)
	}
	bar.Finish() //nolint:errcheck // only shows
	if c.store == nil {
		return nil, nil
	}
	c.report.IndexChecked = true
	shipped, err := c.shipped(e)
	if err != nil {
		return nil, err
	}
	rows := e.bar(-1, "comparing the index", false)
	defer rows.Finish() //nolint:errcheck // only shows
	err = c.store.EachRecordRow(e.ctx, func(r store.RecordRow) error {
		rows.Add(1) //nolint:errcheck // only shows
		c.row(r, shipped)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return c.missing(e.ctx)
}
