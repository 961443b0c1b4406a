package archive

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// Keys of the pax records (POSIX.1-2001 pax interchange format: VENDOR.keyword).
const (
	paxPrefix     = "UNDERSTUDY."
	paxID         = paxPrefix + "id"
	paxReceived   = paxPrefix + "received"
	paxDirection  = paxPrefix + "direction"
	paxSender     = paxPrefix + "sender"
	paxRecipients = paxPrefix + "recipients"
	paxMailboxes  = paxPrefix + "mailboxes"
	paxClient     = paxPrefix + "client"
	paxHelo       = paxPrefix + "helo"
	paxSASLUser   = paxPrefix + "sasl_user"
	paxQueueID    = paxPrefix + "queue_id"
)

const (
	receivedLayout = "2006-01-02T15:04:05.000000Z"

	// maxEnvelope bounds the pax records of one message; archive/tar itself
	// stops at 1 MiB.
	maxEnvelope = 1000 << 10
)

// TarHeader describes a message of size bytes as the tar entry of its record.
func TarHeader(e *Envelope, size int64) (*tar.Header, error) {
	records := map[string]string{
		paxID:         e.ID.String(),
		paxReceived:   e.Received.UTC().Format(receivedLayout),
		paxDirection:  string(e.Direction),
		paxSender:     escape(e.Sender),
		paxRecipients: list(e.Recipients),
		paxMailboxes:  list(e.Mailboxes),
		paxClient:     escape(e.Client),
		paxHelo:       escape(e.Helo),
		paxSASLUser:   escape(e.SASLUser),
		paxQueueID:    escape(e.QueueID),
	}
	total := 0
	for k, v := range records {
		total += len(k) + len(v) + 10
		if v == "" { // pax: an empty value deletes a record
			delete(records, k)
		}
	}
	if total > maxEnvelope {
		return nil, fmt.Errorf("envelope of %d bytes: %w", total, ErrTooLarge)
	}
	return &tar.Header{
		Typeflag: tar.TypeReg, Name: e.ID.String() + ".eml", Mode: 0o640, Size: size,
		ModTime: e.Received.Truncate(time.Second), Format: tar.FormatPAX, PAXRecords: records,
	}, nil
}

// envelopeOf is the inverse of TarHeader.
func envelopeOf(h *tar.Header) (*Envelope, error) {
	r := h.PAXRecords
	e := &Envelope{
		Direction: Direction(r[paxDirection]), Sender: unescape(r[paxSender]), Client: unescape(r[paxClient]),
		Helo: unescape(r[paxHelo]), SASLUser: unescape(r[paxSASLUser]), QueueID: unescape(r[paxQueueID]),
	}
	var err error
	if e.ID, err = uuid.Parse(r[paxID]); err != nil {
		return nil, fmt.Errorf("%s: %w", paxID, err)
	}
	if e.Received, err = time.Parse(time.RFC3339, r[paxReceived]); err != nil {
		return nil, fmt.Errorf("%s: %w", paxReceived, err)
	}
	e.Received = e.Received.UTC()
	if !slices.Contains([]Direction{Inbound, Outbound, Internal}, e.Direction) {
		return nil, fmt.Errorf("%s: %.32q", paxDirection, e.Direction)
	}
	if e.Recipients, err = unlist(r[paxRecipients]); err != nil {
		return nil, fmt.Errorf("%s: %w", paxRecipients, err)
	}
	if e.Mailboxes, err = unlist(r[paxMailboxes]); err != nil {
		return nil, fmt.Errorf("%s: %w", paxMailboxes, err)
	}
	return e, nil
}

// list writes addresses as a JSON array of escaped strings.
func list(addresses []string) string {
	escaped := make([]string, len(addresses))
	for i, a := range addresses {
		escaped[i] = escape(a)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(escaped); err != nil {
		panic("strings are always JSON: " + err.Error())
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func unlist(text string) ([]string, error) {
	var out []string
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		return nil, err
	}
	for i := range out {
		out[i] = unescape(out[i])
	}
	return out, nil
}

// Pax records and JSON are UTF-8, but SMTP clients send any bytes. A byte that
// is no part of valid UTF-8, and each byte of a code point in the escape range
// itself, is written as the private-use code point escapeBase + byte.
const escapeBase = 0x10FF00

func escape(s string) string {
	if plain(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 || r >= escapeBase || r == 0 {
			for i := range n {
				b.WriteRune(escapeBase + rune(s[i]))
			}
		} else {
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

func plain(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r >= escapeBase || r == 0 })
}

func unescape(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return r >= escapeBase }) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if r >= escapeBase {
			b.WriteByte(byte(r - escapeBase))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// writeEntry writes the message as one tar entry, padded to 512 bytes and
// without an end-of-archive marker.
func writeEntry(w io.Writer, e *Envelope, message *Spool) error {
	h, err := TarHeader(e, message.Size())
	if err != nil {
		return err
	}
	t := tar.NewWriter(w)
	if err := t.WriteHeader(h); err != nil {
		return fmt.Errorf("write tar header: %w", err)
	}
	if _, err := message.WriteTo(t); err != nil {
		return fmt.Errorf("write tar entry: %w", err)
	}
	return t.Flush()
}
