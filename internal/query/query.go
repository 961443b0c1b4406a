// Package query is the language in which people search the archive:
//
//	from:ana subject:"factura marzo" has:attachment after:2026-10-01 -newsletter
//
// docs/search.md describes it for its users. Parse turns text into a tree that
// package store translates to SQL; the tree knows nothing of tables. Words are
// folded by Fold and split by Words, which the index uses as well, so both
// always mean the same word.
//
// Nothing here does I/O. Any text is safe to parse: its length, depth and
// number of terms are bounded, and what makes no sense is an *Error that
// points at the place.
package query

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Bounds of a query.
const (
	MaxLength = 4096 // bytes
	maxTerms  = 100
	maxDepth  = 20 // of parentheses
)

// Query is a parsed query. The zero Query finds everything.
type Query struct {
	Root Node // nil: everything
}

// Node is one of And, Or, Not, Words, Address, MessageID, HasAttachment,
// Direction, Route, Size, Time and Mailbox.
type Node interface{ node() }

type (
	// And is true when all of its parts are.
	And []Node
	// Or is true when one of its parts is.
	Or []Node
	// Not is true when its part is not.
	Not struct{ Of Node }
	// Words finds words that stand one behind the other. They are folded.
	Words struct {
		Field  Field
		List   []string // never empty
		Prefix bool     // the last word may go on
	}
	// Address finds a whole e-mail address of a From, To or Cc field, folded.
	Address struct {
		Field Field // From, To or Cc
		Text  string
	}
	// MessageID finds a Message-ID (folded, without angle brackets), or the
	// archive's own id.
	MessageID string
	// HasAttachment finds messages with attachments.
	HasAttachment struct{}
	// Direction finds "inbound", "outbound" or "internal" messages.
	Direction string
	// Route finds messages that went to the "primary", the "portal" or the
	// "internet" on their arrival, perhaps to others too.
	Route string
	// Size compares the octets of the message.
	Size struct {
		Larger bool // more than Bytes, else less
		Bytes  int64
	}
	// Time compares when the message was received.
	Time struct {
		Before bool // before At, else at or after it
		Moment Moment
	}
	// Mailbox finds the messages of one mailbox, by its canonical address.
	Mailbox string
)

func (And) node()           {}
func (Or) node()            {}
func (Not) node()           {}
func (Words) node()         {}
func (Address) node()       {}
func (MessageID) node()     {}
func (HasAttachment) node() {}
func (Direction) node()     {}
func (Route) node()         {}
func (Size) node()          {}
func (Time) node()          {}
func (Mailbox) node()       {}

// Field is where words are looked for.
type Field byte

// The fields. Any is all of them.
const (
	Any Field = iota
	Subject
	From // envelope sender and From header
	To   // To header
	Cc
	Filename
	Body
)

// Moment is a point in time, or one that moves with the clock.
type Moment struct {
	At  time.Time // UTC; zero: Ago counts
	Ago time.Duration
	Day int // with Ago 0 and no At: begin of the UTC day this many days from today
}

// On returns the moment as seen at now.
func (m Moment) On(now time.Time) time.Time {
	switch {
	case !m.At.IsZero():
		return m.At
	case m.Ago != 0:
		return now.UTC().Add(-m.Ago)
	}
	return now.UTC().Truncate(24*time.Hour).AddDate(0, 0, m.Day)
}

// Error says what is wrong with a query, and where.
type Error struct {
	Offset int // in bytes, 0 to the query's length
	Text   string
}

// Error returns the text without the place.
func (e *Error) Error() string { return e.Text }

// Caret renders the error below the query that it is about, for a terminal
// or anything with letters of one width:
//
//	from:ana size:big
//	              ^ size: wants ...
func (e *Error) Caret(text string) string {
	text = strings.ToValidUTF8(text, "?")
	at := min(e.Offset, len(text))
	for at > 0 && at < len(text) && !utf8.RuneStart(text[at]) {
		at--
	}
	line := strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, text)
	return line + "\n" + strings.Repeat(" ", utf8.RuneCountInString(text[:at])) + "^ " + e.Text
}

func fail(offset int, format string, args ...any) *Error {
	return &Error{Offset: offset, Text: fmt.Sprintf(format, args...)}
}

// Quote writes s so that it means itself as the value of a field, or as a
// phrase: Parse(`subject:` + Quote(s)).
func Quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
