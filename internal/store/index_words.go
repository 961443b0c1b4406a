package store

import (
	"math/bits"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"

	"understudy/internal/query"
)

// The lexemes of message.tsv are words (query.WordsOf), once plain, of headers
// in weight A and of the body in weight D, and those of some headers once
// more with a prefix, which no word can have. So a single GIN scan answers
// for fields and mailboxes too, and needs to look at no row for it.
const (
	fromPrefix    = "f:" // words and whole addresses of the sender and From
	toPrefix      = "t:" // of To and Cc
	subjectPrefix = "s:"
	namePrefix    = "n:" // attachments' names
	idPrefix      = "i:" // Message-ID, and the archive's id
	mailboxPrefix = "m:" // who may see it
	domainPrefix  = "d:" // and their domains
	kindPrefix    = "k:" // direction, and hasAttachment
	sizePrefix    = "z:" // the size's number of bits
	noLexeme      = "x:" // which no message has
	attached      = kindPrefix + "attachment"
)

const (
	wordBudget   = 900_000 // bytes of a tsvector; PostgreSQL takes 1 MiB
	headerBudget = 300_000 // of which headers may take
	maxPositions = 255     // of one lexeme, PostgreSQL's bound
	lastPosition = 16383   // likewise: all words from there on count as there
	fieldGap     = 4       // positions between fields, so that no phrase spans two
)

// vector collects a tsvector.
type vector struct {
	lexemes map[string]*pgtype.TSVectorLexeme
	at      uint16
	room    int // bytes
}

// put adds a lexeme at the present position, or without one, and reports
// whether there was room.
func (v *vector) put(word string, weight pgtype.TSVectorWeight, positioned bool) bool {
	x := v.lexemes[word]
	if x == nil {
		if v.room -= len(word) + 6; v.room < 0 {
			return false
		}
		x = &pgtype.TSVectorLexeme{Word: word}
		v.lexemes[word] = x
	}
	n := len(x.Positions)
	if !positioned || n >= maxPositions || n > 0 && x.Positions[n-1].Position >= v.at {
		return true
	}
	if v.room -= 2; v.room < 0 {
		return false
	}
	x.Positions = append(x.Positions, pgtype.TSVectorPosition{Position: v.at, Weight: weight})
	return true
}

// text adds the words of a field's text.
func (v *vector) text(folded, prefix string, weight pgtype.TSVectorWeight) {
	for word := range query.WordsOf(folded) {
		if v.at < lastPosition {
			v.at++
		}
		if !v.put(word, weight, true) || prefix != "" && !v.put(prefix+word, weight, true) {
			return
		}
	}
	v.at = min(v.at+fieldGap, lastPosition)
}

// addresses adds the words of a header with addresses, and the addresses.
func (v *vector) addresses(text, prefix string) {
	folded := query.Fold(text)
	v.text(folded, prefix, pgtype.TSVectorWeightA)
	for a := range query.Addresses(folded) {
		v.put(prefix+a, 0, false)
	}
}

// words makes the message's tsvector.
func (m *IndexedMessage) words() pgtype.TSVector {
	v := &vector{lexemes: make(map[string]*pgtype.TSVectorLexeme, 256), room: headerBudget}
	for i, a := range m.Mailboxes {
		v.put(mailboxPrefix+clean(a), 0, false)
		if d := domainOf(a); i == 0 || d != domainOf(m.Mailboxes[i-1]) {
			v.put(domainPrefix+clean(d), 0, false)
		}
	}
	v.put(kindPrefix+m.Direction, 0, false)
	v.put(sizeLexeme(m.Size), 0, false)
	v.put(idPrefix+m.ID.String(), 0, false)
	if id := query.FoldID(m.MessageID); id != "" {
		v.put(idPrefix+id, 0, false)
	}
	if len(m.Attachments) > 0 {
		v.put(attached, 0, false)
	}
	v.text(query.Fold(m.Subject), subjectPrefix, pgtype.TSVectorWeightA)
	v.addresses(m.Sender, fromPrefix)
	v.addresses(m.FromHeader, fromPrefix)
	for _, name := range m.Attachments {
		v.text(query.Fold(name), namePrefix, pgtype.TSVectorWeightA)
	}
	v.addresses(m.ToHeader, toPrefix)
	v.room = max(v.room, 0) + wordBudget - headerBudget
	v.text(query.Fold(m.Text), "", pgtype.TSVectorWeightD)
	out := pgtype.TSVector{Lexemes: make([]pgtype.TSVectorLexeme, 0, len(v.lexemes)), Valid: true}
	for _, x := range v.lexemes {
		out.Lexemes = append(out.Lexemes, *x)
	}
	return out
}

func sizeLexeme(size int64) string {
	return sizePrefix + strconv.Itoa(bits.Len64(uint64(max(size, 0))))
}

func domainOf(address string) string { return address[strings.LastIndexByte(address, '@')+1:] }

// clean makes text that PostgreSQL takes.
func clean(s string) string { return query.Clean(s) }

func cleanAll(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = clean(s)
	}
	return out
}
