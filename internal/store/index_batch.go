package store

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// key is a message's primary key.
type key struct {
	Received time.Time
	ID       uuid.UUID
}

func (m *IndexedMessage) key() key { return key{m.Received.UTC().Truncate(time.Microsecond), m.ID} }

// dayBatch is what of a batch is of one day, by time.
type dayBatch struct {
	day      time.Time
	messages []*IndexedMessage
	postings *postings // made by post
	again    bool      // rows may be there already
}

// byDay splits messages by day.
func byDay(messages []IndexedMessage) []*dayBatch {
	days := map[time.Time]*dayBatch{}
	seen := map[key]bool{}
	for i := range messages {
		m := &messages[i]
		k := m.key()
		if seen[k] {
			continue
		}
		seen[k] = true
		day := k.Received.Truncate(24 * time.Hour)
		if days[day] == nil {
			days[day] = &dayBatch{day: day}
		}
		days[day].messages = append(days[day].messages, m)
	}
	out := slices.SortedFunc(maps.Values(days), func(a, b *dayBatch) int { return a.day.Compare(b.day) })
	for _, d := range out {
		slices.SortFunc(d.messages, func(a, b *IndexedMessage) int {
			return cmp.Or(a.Received.Compare(b.Received), bytes.Compare(a.ID[:], b.ID[:]))
		})
	}
	return out
}

// post makes the posting lists.
func (d *dayBatch) post() {
	d.postings = newPostings()
	for n, m := range d.messages {
		d.postings.message(m, n)
	}
}

func (d *dayBatch) suffix() string { return d.day.Format("_20060102") }

func dates(days []*dayBatch) (out []time.Time) {
	for _, d := range days {
		out = append(out, d.day)
	}
	return out
}

// queueMailboxes notes whose messages the segment has, and until when, for
// its expiry. Bytes of which that is not known are nobody's: mailbox ”.
func queueMailboxes(batch *pgx.Batch, b *IndexBatch) {
	newest := map[string]time.Time{}
	note := func(mailbox string, at time.Time) {
		if at.After(newest[mailbox]) {
			newest[mailbox] = at
		}
	}
	if b.Damaged > 0 || b.LeftOut {
		note("", time.Now())
	}
	for _, m := range b.Messages {
		if len(m.Mailboxes) == 0 {
			note("", m.Received)
		}
		for _, a := range m.Mailboxes {
			note(clean(a), m.Received)
		}
	}
	if len(newest) == 0 {
		return
	}
	names, domains, times := slices.Sorted(maps.Keys(newest)), []string(nil), []time.Time(nil)
	for _, n := range names {
		domains, times = append(domains, domainOf(n)), append(times, newest[n])
	}
	batch.Queue(`INSERT INTO segment_mailbox (segment, mailbox, domain, last)
		SELECT $1, * FROM unnest($2::text[], $3::text[], $4::timestamptz[])
		ON CONFLICT (segment, mailbox) DO UPDATE SET last = greatest(segment_mailbox.last, EXCLUDED.last)`, b.Segment, names, domains, times)
}
