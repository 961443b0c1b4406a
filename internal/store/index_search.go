package store

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"understudy/internal/query"
)

// Access says whose messages may be seen. It is put into each query: the
// zero Access sees nothing.
type Access struct {
	All     bool     // the operator
	Domains []string // a domain admin
	Mailbox string   // a mailbox owner: canonical address
}

// Covers reports whether the mail of a mailbox may be seen.
func (a Access) Covers(mailbox string) bool {
	return a.All || slices.Contains(a.Domains, domainOf(mailbox)) || len(a.Domains) == 0 && mailbox != "" && mailbox == a.Mailbox
}

// MessageFilter asks for messages of the index. Empty fields do not filter.
type MessageFilter struct {
	Access    Access
	Mailbox   string       // only messages of this mailbox (within what Access allows)
	Query     *query.Query // nil: all
	Direction string
	After     time.Time // received at or after
	Before    time.Time // received before
	Cursor    Cursor    // of the page before; zero for the first
	Limit     int       // 1 to 500; 0 is 50
}

// Cursor marks the last message of a page; the next page begins after it.
type Cursor struct {
	Received time.Time
	ID       uuid.UUID
}

// MessageRow is a message as the index tells of it.
type MessageRow struct {
	ID          uuid.UUID `db:"id" json:"id"`
	Received    time.Time `db:"received" json:"received"`
	Direction   string    `db:"direction" json:"direction"`
	Sender      string    `db:"sender" json:"sender"`
	Recipients  []string  `db:"recipients" json:"recipients"` // those that the asker may know: never a Bcc of others
	Subject     string    `db:"subject" json:"subject"`
	FromHeader  string    `db:"from_header" json:"from"`
	ToHeader    string    `db:"to_header" json:"to"`
	CcHeader    string    `db:"cc_header" json:"cc"`
	MessageID   string    `db:"message_id" json:"message_id"`
	Size        int64     `db:"size" json:"size"`
	Attachments []string  `db:"attachments" json:"attachments"`
	Route       []string  `db:"route" json:"route"`         // primary, portal, internet; none where it is not known
	Client      string    `db:"client" json:"client"`       // "" for a mailbox owner
	SASLUser    string    `db:"sasl_user" json:"sasl_user"` // "" for a mailbox owner
	QueueID     string    `db:"queue_id" json:"queue_id"`
	Segment     string    `db:"segment" json:"segment"`
	Offset      int64     `db:"seg_offset" json:"offset"`
	Length      int64     `db:"seg_length" json:"length"`
}

const (
	defaultPage = 50
	maxPage     = 500
)

// SearchMessages returns a page of messages, newest first, and the cursor of
// the next page, nil when this was the last. Who may see what, and what has
// expired, is decided by the query.
func (s *Store) SearchMessages(ctx context.Context, f MessageFilter) ([]MessageRow, *Cursor, error) {
	limit := f.Limit
	if limit <= 0 {
		limit = defaultPage
	}
	limit = min(limit, maxPage)
	var out []MessageRow
	err := s.again(func() (err error) {
		out, err = s.search(ctx, f, limit+1)
		return err
	})
	if err != nil {
		return nil, nil, wrap("search messages", err)
	}
	if len(out) <= limit {
		return out, nil, nil
	}
	out = out[:limit]
	last := out[limit-1]
	return out, &Cursor{Received: last.Received, ID: last.ID}, nil
}

// again calls f again when it met a day that expired or was dropped
// meanwhile, or when it and the dropping waited for each other.
func (s *Store) again(f func() error) (err error) {
	for range 3 {
		if err = f(); !isCode(err, "42P01") && !isCode(err, "40P01") {
			break
		}
	}
	return err
}

// search reads at least limit messages, if there are as many.
func (s *Store) search(ctx context.Context, f MessageFilter, limit int) (out []MessageRow, err error) {
	select {
	case s.looking <- struct{}{}:
		defer func() { <-s.looking }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	root, err := s.asked(ctx, &f)
	if err != nil {
		return nil, err
	}
	p := newPlan(&f, root, s.now())
	if p.byID, err = s.places(ctx, p.ids); err != nil {
		return nil, err
	}
	err = pgx.BeginTxFunc(ctx, s.Pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		find, err := newFinder(ctx, tx, p, f.Cursor, s.memory)
		if err == nil {
			out, err = find.next(ctx, limit)
		}
		return err
	})
	return out, err
}
