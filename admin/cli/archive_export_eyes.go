package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"slices"

	"understudy/internal/archive"
	"understudy/internal/mime"
	"understudy/internal/store"
)

// keptInMemory is the largest message without its Bcc fields that is held in
// memory until its length is known, in bytes; a larger one is kept in a file.
const keptInMemory = 1 << 20

// eyes limit what is exported of a message to what an owner of a mailbox, or
// the admin of a domain, sees of it on the website.
type eyes struct {
	store  *store.Store
	access store.Access
	sent   map[string]bool // by envelope sender: who exports sent it, and so knows its blind recipients
}

func newEyes(s *store.Store, a store.Access) *eyes {
	return &eyes{store: s, access: a, sent: map[string]bool{}}
}

// limit changes a record to what may be seen of it, which m says of the
// envelope. The caller calls free when it has read the body.
func (y *eyes) limit(ctx context.Context, rec *archive.Record, m *store.MessageRow) (free func() error, err error) {
	free = func() error { return nil }
	if y.access.All {
		return free, nil
	}
	rec.Direction, rec.Recipients, rec.Client, rec.SASLUser, rec.Route = archive.Direction(m.Direction), m.Recipients, m.Client, m.SASLUser, m.Route
	if m.Client == "" {
		rec.Helo = ""
	}
	rec.Mailboxes = slices.DeleteFunc(slices.Clone(rec.Mailboxes), func(box string) bool { return !y.access.Covers(box) })
	knows, err := y.knows(ctx, m.Sender)
	if err != nil || knows {
		return free, err
	}
	// A tar entry begins with the length.
	return keep(rec, mime.DropFields(rec.Body, "bcc", "resent-bcc"))
}

// knows tells whether who exports sent what has this sender.
func (y *eyes) knows(ctx context.Context, sender string) (bool, error) {
	knows, ok := y.sent[sender]
	if ok {
		return knows, nil
	}
	knows, err := y.store.Sent(ctx, y.access, sender)
	if err == nil {
		y.sent[sender] = knows
	}
	return knows, err
}

// keep gives a record another body, and its length.
func keep(rec *archive.Record, body io.Reader) (free func() error, err error) {
	free = func() error { return nil }
	var b bytes.Buffer
	n, err := io.CopyN(&b, body, keptInMemory)
	if errors.Is(err, io.EOF) {
		rec.Body, rec.Size = &b, n
		return free, nil
	}
	if err != nil {
		return free, err
	}
	f, err := os.CreateTemp("", ".export-*")
	if err != nil {
		return free, err
	}
	free = f.Close
	if err := os.Remove(f.Name()); err != nil {
		return free, err
	}
	more, err := io.Copy(f, body)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	rec.Body, rec.Size = io.MultiReader(&b, f), n+more
	return free, err
}
