package web

import (
	"context"
	"io"
	"net/http"
	"time"

	"understudy/internal/archive"
	"understudy/internal/mime"
	"understudy/internal/store"
)

const (
	sendTime = time.Minute // to send a page, after all else

	// What a bucket that has a message must manage.
	answerTime = 15 * time.Second
	slowest    = 512 << 10 // bytes/s
)

// openTime bounds opening a record of n bytes, wherever it is.
func openTime(n int64) time.Duration {
	return answerTime + time.Duration(n/slowest)*time.Second
}

// patiently runs h with the time that it may take to fetch the message from a
// bucket, in place of requestTime.
func (s *Site) patiently(w http.ResponseWriter, r *http.Request, u *user, m *store.MessageRow, h messageHandler) error {
	limit := openTime(m.Length) + 3*requestTime // also for the database before and after, and to take it apart
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), limit)
	defer cancel()
	defer context.AfterFunc(clientContext(r), cancel)()
	end, conn := time.Now().Add(limit+sendTime), http.NewResponseController(w)
	conn.SetReadDeadline(end)  //nolint:errcheck // then the shorter one holds, which takes the client for gone
	conn.SetWriteDeadline(end) //nolint:errcheck // then the shorter one holds
	return h(w, r.WithContext(ctx), u, m)
}

// look notes that somebody else than its owner looks at a message: what
// cannot be noted is not shown.
func (s *Site) look(ctx context.Context, u *user, action store.Action, m *store.MessageRow, detail string) error {
	if u.account == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	return s.Store.RecordLook(ctx, u.Name, action, u.access(), m, detail)
}

// record opens a message's bytes, as they may be seen by the user.
func (s *Site) record(ctx context.Context, u *user, m *store.MessageRow) (body io.Reader, size int64, done func(), err error) {
	knows, err := s.sent(ctx, u, m)
	if err != nil {
		return nil, 0, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, openTime(m.Length))
	defer cancel()
	rec, err := s.Open(ctx, archive.Ref{Segment: m.Segment, Offset: m.Offset, Length: m.Length})
	if err != nil {
		return nil, 0, nil, err
	}
	done = func() { rec.Close() }
	if knows {
		return rec.Body, rec.Size, done, nil
	}
	return mime.DropFields(rec.Body, "bcc", "resent-bcc"), rec.Size, done, nil
}

// sent tells whether the user may see a Bcc field.
func (s *Site) sent(ctx context.Context, u *user, m *store.MessageRow) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	return s.Store.Sent(ctx, u.access(), m.Sender)
}
