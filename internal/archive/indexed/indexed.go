// Package indexed makes of a record of the archive log what the index holds of
// it: for the indexer, and for who compares the index with the log.
package indexed

import (
	"understudy/internal/archive"
	"understudy/internal/mime"
	"understudy/internal/store"
)

// Message reads a record's body and makes its message. With an error there is
// still the envelope, and all that could be decoded.
func Message(rec *archive.Record, d *mime.Decoder) (store.IndexedMessage, error) {
	m := Envelope(rec)
	s, err := d.Decode(rec.Body)
	m.Subject, m.FromHeader, m.ToHeader, m.CcHeader, m.MessageID = s.Subject, s.From, s.To, s.Cc, s.MessageID
	m.Attachments, m.Text = s.Attachments, s.Text
	return m, err
}

// Envelope is Message without the body.
func Envelope(rec *archive.Record) store.IndexedMessage {
	return store.IndexedMessage{
		ID: rec.ID, Received: rec.Received, Direction: string(rec.Direction), Sender: rec.Sender, Recipients: rec.Recipients,
		Mailboxes: rec.Mailboxes, Route: rec.Route, Size: rec.Size, Client: rec.Client, SASLUser: rec.SASLUser, QueueID: rec.QueueID,
		Segment: rec.Segment, Offset: rec.Offset, Length: rec.Length,
	}
}
