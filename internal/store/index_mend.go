package store

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// numbered is a message that has a row, made of the same record.
type numbered struct {
	*IndexedMessage
	ord int32
}

// EnvelopeOnly takes away what a message says, when PostgreSQL refuses it: its
// envelope stays.
func (m *IndexedMessage) EnvelopeOnly() {
	m.Subject, m.FromHeader, m.ToHeader, m.CcHeader, m.MessageID, m.Attachments, m.Text = "", "", "", "", "", nil, ""
}

// Unfound says of messages how many of the words, addresses and marks that
// searches go by do not lead to them, by id. Left out are those to which all
// lead, and those that have no row or one of another record.
func (s *Store) Unfound(ctx context.Context, messages []IndexedMessage) (map[uuid.UUID]int, error) {
	out := map[uuid.UUID]int{}
	for _, d := range byDay(messages) {
		err := s.again(func() error {
			return pgx.BeginTxFunc(ctx, s.Pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error { return d.unfound(ctx, tx, out) })
		})
		if err != nil {
			return nil, wrap("compare the postings of "+d.day.Format("2006-01-02"), err)
		}
	}
	return out, nil
}

func (d *dayBatch) unfound(ctx context.Context, tx pgx.Tx, out map[uuid.UUID]int) error {
	if _, err := tx.Exec(ctx, patiently); err != nil {
		return err
	}
	var there bool
	if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM index_day WHERE day = $1)`, d.day).Scan(&there); err != nil || !there {
		return err
	}
	rows, _, err := d.split(ctx, tx) // keeps the day from being dropped meanwhile
	if err != nil {
		return err
	}
	_, left, err := d.lacking(ctx, tx, rows)
	ids := make(map[uint64]uuid.UUID, len(rows))
	for _, m := range rows {
		ids[uint64(m.ord)] = m.ID
	}
	for _, ords := range left {
		for _, ord := range ords {
			out[ids[ord]]++
		}
	}
	return err
}

// mend adds what the day lacks of mailboxes and postings of those messages that
// have a row. It returns the batch of those that have none.
func (d *dayBatch) mend(ctx context.Context, tx pgx.Tx) (*dayBatch, error) {
	var batch int32
	err := tx.QueryRow(ctx, `SELECT next FROM index_day WHERE day = $1 FOR UPDATE`, d.day).Scan(&batch) // nobody adds or moves anything meanwhile
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, errNoDay
	}
	if err != nil {
		return nil, err
	}
	there, missing, err := d.split(ctx, tx)
	if err != nil {
		return nil, err
	}
	fresh, old := &dayBatch{day: d.day, messages: missing, again: true}, &dayBatch{day: d.day, again: true}
	fresh.post()
	for _, m := range there {
		old.messages = append(old.messages, m.IndexedMessage)
	}
	if err := old.writeMailboxes(ctx, tx); err != nil {
		return nil, err
	}
	lists, left, err := d.lacking(ctx, tx, there)
	if err != nil || len(left) == 0 {
		return fresh, err
	}
	// The number of the batch is that of no message.
	if _, err := tx.Exec(ctx, `UPDATE index_day SET next = next + 1, batches = batches + 1, added_at = now() WHERE day = $1`, d.day); err != nil {
		return nil, err
	}
	lists.keep(left)
	return fresh, d.writeOwn(ctx, tx, lists.encode(0, batch, nil))
}

// split tells the messages that have a row, by their number, from those that
// have none. One whose row is of another record is neither.
func (d *dayBatch) split(ctx context.Context, tx pgx.Tx) (there []numbered, missing []*IndexedMessage, err error) {
	if _, err := tx.Exec(ctx, planAsMade); err != nil {
		return nil, nil, err
	}
	messages := make(map[key]*IndexedMessage, len(d.messages))
	ids := make([]uuid.UUID, len(d.messages))
	for i, m := range d.messages {
		messages[m.key()], ids[i] = m, m.ID
	}
	// Not prepared, here and below: see placesOf.
	rows, err := tx.Query(ctx, `SELECT received, id, ord, segment, seg_offset, subject = '' AND from_header = '' AND to_header = '' AND cc_header = '' AND message_id = '' AND attachments = '{}'
		FROM message`+d.suffix()+` WHERE id = ANY($1) ORDER BY ord`, pgx.QueryExecModeDescribeExec, ids)
	if err != nil {
		return nil, nil, err
	}
	var k key
	var ord int32
	var segment string
	var offset int64
	var bare bool
	_, err = pgx.ForEachRow(rows, []any{&k.Received, &k.ID, &ord, &segment, &offset, &bare}, func() error {
		k.Received = k.Received.UTC()
		m := messages[k]
		delete(messages, k)
		if m == nil || m.Segment != segment || m.Offset != offset {
			return nil
		}
		if bare { // perhaps the envelope is all that there is
			of := *m
			m = &of
			m.EnvelopeOnly()
		}
		there = append(there, numbered{m, ord})
		return nil
	})
	for _, m := range d.messages {
		if messages[m.key()] != nil {
			missing = append(missing, m)
		}
	}
	return there, missing, err
}

const wordsAtOnce = 20_000 // that postings are asked for

// lacking makes the posting lists of messages of a day, and returns which of
// these the day's tables do not have whole: those messages that they lack. The
// places of words are not compared.
func (d *dayBatch) lacking(ctx context.Context, tx pgx.Tx, messages []numbered) (*postings, map[*list][]uint64, error) {
	lists, left, words := newPostings(), map[*list][]uint64{}, map[string]bool{}
	end := int32(0)
	for _, m := range messages {
		lists.message(m.IndexedMessage, int(m.ord))
		end = m.ord + 1
	}
	seen := make(set, (end+63)/64)
	for f := range lists.lists {
		for word, l := range lists.lists[f] {
			left[l], words[word] = l.messages(), true
		}
	}
	for some := range slices.Chunk(slices.Sorted(maps.Keys(words)), wordsAtOnce) {
		rows, err := tx.Query(ctx, `SELECT word, field, docs FROM posting_recent WHERE day = $2 AND word = ANY($1)
			UNION ALL SELECT word, field, docs FROM posting`+d.suffix()+` WHERE word = ANY($1)`, pgx.QueryExecModeDescribeExec, some, d.day)
		if err != nil {
			return nil, nil, err
		}
		var p posting
		_, err = pgx.ForEachRow(rows, []any{&p.Word, &p.Field, &p.Docs}, func() error {
			if p.Field < 0 || int(p.Field) >= len(lists.lists) {
				return nil
			}
			l := lists.lists[p.Field][p.Word]
			if l == nil || left[l] == nil {
				return nil
			}
			clear(seen)
			seen.addDocs(p.Docs)
			if left[l] = slices.DeleteFunc(left[l], seen.has); len(left[l]) == 0 {
				delete(left, l)
			}
			return nil
		})
		if err != nil {
			return nil, nil, err
		}
	}
	return lists, left, nil
}
