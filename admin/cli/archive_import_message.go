package cli

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/mail"
	"strings"
	"time"

	"github.com/google/uuid"

	"understudy/internal/archive"
)

// importVersion is the version of the UUIDs of imported messages: made from
// their bytes (RFC 9562 section 5.8).
const importVersion = 8

// unindexed remembers the imported messages of the log that the index does not
// have yet.
func (im *importer) unindexed(dir string) error {
	at, err := im.store.SegmentOffsets(im.env.ctx)
	if err != nil {
		return err
	}
	list, err := archive.Segments(dir)
	if err != nil {
		return err
	}
	for _, seg := range list {
		if at[seg.Name].Sealed {
			continue
		}
		if err := im.unindexedOf(dir, seg.Name, at[seg.Name].Indexed); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (im *importer) unindexedOf(dir, name string, from int64) error {
	r, err := archive.OpenSegment(dir, name)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := r.SeekTo(from); err != nil {
		return err
	}
	for {
		if err := im.env.ctx.Err(); err != nil {
			return err
		}
		rec, err := r.Next()
		var encrypted *archive.EncryptedError
		var id uuid.UUID
		switch {
		case err == io.EOF:
			return nil
		case errors.As(err, &encrypted):
			id = encrypted.ID // enough for this
		case err != nil:
			return err
		default:
			id = rec.ID
		}
		if id.Version() == importVersion {
			im.seen[id] = true
		}
	}
}

// envelope is what can be known of a message that came another way.
func (im *importer) envelope(m *incoming) *archive.Envelope {
	e := &archive.Envelope{ID: m.id(im.mailbox), Received: im.received(m), Direction: im.direction, Mailboxes: []string{im.mailbox}}
	if im.direction == archive.Outbound {
		e.Sender, e.Recipients = im.mailbox, append(addresses(m.field("To")), addresses(m.field("Cc"))...)
		return e
	}
	e.Recipients = []string{im.mailbox}
	if e.Sender = m.sender; e.Sender == "" {
		path := m.field("Return-Path")
		e.Sender = strings.Trim(path, "<> ")
		if from := addresses(m.field("From")); path == "" && len(from) > 0 {
			e.Sender = from[0]
		}
	}
	return e
}

func addresses(field string) (out []string) {
	list, err := mail.ParseAddressList(field)
	if err != nil {
		return nil
	}
	for _, a := range list {
		out = append(out, a.Address)
	}
	return out
}

// earliest is older than any mail that somebody may want to keep; a time
// before it is a mistake.
var earliest = time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC)

// received is the first of the times that can be.
func (im *importer) received(m *incoming) time.Time {
	trace := m.field("Received")
	trace = trace[strings.LastIndexByte(trace, ';')+1:]
	date := m.field("Date")
	times := []time.Time{parseTime(trace), m.dated, parseTime(date), m.filed}
	if im.direction == archive.Outbound {
		times = []time.Time{parseTime(date), m.dated, m.filed}
	}
	for _, t := range times {
		if t.After(earliest) && !t.After(im.begin) {
			return t.UTC().Truncate(time.Microsecond)
		}
	}
	return im.begin.UTC().Truncate(time.Microsecond)
}

func parseTime(s string) time.Time {
	t, err := mail.ParseDate(strings.TrimSpace(s))
	if err != nil {
		return time.Time{}
	}
	return t
}

// id makes the id of a message in a mailbox from its bytes so that it is the same in every import.
func (m *incoming) id(mailbox string) uuid.UUID {
	all := sha256.New()
	fmt.Fprintf(all, "understudy import\x00%s\x00%x", mailbox, m.sum.Sum(nil))
	id := uuid.UUID(all.Sum(nil)[:16])
	id[6], id[8] = id[6]&0x0f|importVersion<<4, id[8]&0x3f|0x80
	return id
}
