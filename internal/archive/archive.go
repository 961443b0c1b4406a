// Package archive is the archive log: every covered message, appended to
// segment files before Postfix may answer 250.
//
// Writer groups the appends that wait into one write and one fdatasync.
// Reader (Segments, OpenSegment, ReadRecord) walks the records and tolerates
// any damage to one without losing the next. The layout is specified in
// docs/archive-format.md: zstd skippable frames (RFC 8878 section 3.1.2) in
// front of zstd frames that hold one pax tar entry each (POSIX.1-2001), so
// `zstd -dc SEGMENT | tar -tv` lists a segment.
//
// When the disk is full or fails, Append returns an error and the caller must
// answer with a temporary failure; the writer recovers without a restart.
// Nothing here needs the network or PostgreSQL.
package archive

import (
	"errors"
	"time"

	"github.com/google/uuid"
)

var (
	// ErrClosed is returned by Append after Close.
	ErrClosed = errors.New("archive writer is closed")
	// ErrTooLarge is returned when a message exceeds what a Spool may hold,
	// or an envelope what a record may hold.
	ErrTooLarge = errors.New("too large for the archive")
	// ErrDamaged is returned when a record that should be at a place is not
	// there or does not verify.
	ErrDamaged = errors.New("damaged archive record")
	// ErrVersion is returned for a record that a later program wrote.
	ErrVersion = errors.New("archive record of format version")
	// ErrEncrypted is returned for a record that is whole but whose content
	// none of the reader's identities can decrypt.
	ErrEncrypted = errors.New("encrypted: configure archive_identity_file")
	// ErrName is returned for a text that is not the name of a segment.
	ErrName = errors.New("not a segment name")
)

// Direction is the way a message travels, seen from the customer.
type Direction string

// The three directions.
const (
	Inbound  Direction = "inbound"
	Outbound Direction = "outbound"
	Internal Direction = "internal" // from one of ours, to ours alone
)

// Envelope is what is known of a message beside its bytes. Addresses are the
// raw strings that the SMTP client sent (they need not be valid UTF-8), except
// Mailboxes.
type Envelope struct {
	ID         uuid.UUID // version 7; also the X-Understudy-Id header
	Received   time.Time // UTC, in microseconds
	Direction  Direction
	Sender     string   // envelope sender, "" for the null reverse-path
	Recipients []string // envelope recipients, duplicates kept
	Mailboxes  []string // canonical addresses of the covered parties, who may see the message
	Client     string   // IP address of the SMTP client
	Helo       string
	SASLUser   string
	QueueID    string   // Postfix's, "" if unknown
	Route      []string // where the recipients' mail went when it came, each once, of Routes; none in records before this was known
}

// The places that a message can be for, as the directory said on its arrival.
const (
	RoutePrimary  = "primary"  // a customer's own server
	RoutePortal   = "portal"   // a mailbox here
	RouteInternet = "internet" // no domain of ours
)

// Routes lists them, in the order in which an Envelope does.
var Routes = []string{RoutePrimary, RoutePortal, RouteInternet}

// Ref says where a record is. It stays valid when its segment is sealed.
type Ref struct {
	Segment string // file name, without directory
	Offset  int64  // of the record's first byte
	Length  int64  // of the whole record, in bytes
}
