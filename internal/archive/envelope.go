package archive

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
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
	paxRoute      = paxPrefix + "route"
)

const (
	receivedLayout = "2006-01-02T15:04:05.000000Z"

	// maxEnvelope bounds the pax records of one message; archive/tar itself
	// stops at 1 MiB.
	maxEnvelope = 1000 << 10

	nameSuffix = ".eml" // behind the id, the entry's name
)

// paxRecords are the envelope's records, sorted by key; an empty value is none
// (pax: it deletes a record).
func paxRecords(e *Envelope) (records [11][2]string, err error) {
	records = [...][2]string{
		{paxClient, escape(e.Client)},
		{paxDirection, string(e.Direction)},
		{paxHelo, escape(e.Helo)},
		{paxID, e.ID.String()},
		{paxMailboxes, list(e.Mailboxes)},
		{paxQueueID, escape(e.QueueID)},
		{paxReceived, e.Received.UTC().Format(receivedLayout)},
		{paxRecipients, list(e.Recipients)},
		{paxRoute, strings.Join(e.Route, " ")},
		{paxSASLUser, escape(e.SASLUser)},
		{paxSender, escape(e.Sender)},
	}
	total := 0
	for _, r := range records {
		total += len(r[0]) + len(r[1]) + 10
	}
	if total > maxEnvelope {
		return records, fmt.Errorf("envelope of %d bytes: %w", total, ErrTooLarge)
	}
	return records, nil
}

// TarHeader describes a message of size bytes as the tar entry of its record.
func TarHeader(e *Envelope, size int64) (*tar.Header, error) {
	records, err := paxRecords(e)
	if err != nil {
		return nil, err
	}
	pax := make(map[string]string, len(records))
	for _, r := range records {
		if r[1] != "" {
			pax[r[0]] = r[1]
		}
	}
	return &tar.Header{
		Typeflag: tar.TypeReg, Name: e.ID.String() + nameSuffix, Mode: 0o640, Size: size,
		ModTime: e.Received.Truncate(time.Second), Format: tar.FormatPAX, PAXRecords: pax,
	}, nil
}

// envelopeOf is the inverse of TarHeader.
func envelopeOf(h *tar.Header) (*Envelope, error) {
	r := h.PAXRecords
	e := &Envelope{
		Direction: Direction(r[paxDirection]), Sender: unescape(r[paxSender]), Client: unescape(r[paxClient]),
		Helo: unescape(r[paxHelo]), SASLUser: unescape(r[paxSASLUser]), QueueID: unescape(r[paxQueueID]),
	}
	if words := strings.Fields(r[paxRoute]); len(words) > 0 {
		e.Route = words
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
	if !slices.ContainsFunc(addresses, unusual) {
		switch len(addresses) {
		case 0:
			return "[]"
		case 1:
			return `["` + addresses[0] + `"]`
		}
		return `["` + strings.Join(addresses, `","`) + `"]`
	}
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

// unusual: JSON or escape writes such an address otherwise.
func unusual(address string) bool {
	return strings.ContainsFunc(address, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' })
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
