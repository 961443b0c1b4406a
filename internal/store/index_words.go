package store

import (
	"math/bits"
	"strconv"
	"strings"

	"understudy/internal/query"
)

// field says of what a message has a word. The numbers are those of the
// tables: they never change their meaning.
type field int16

const (
	inBody    field = iota
	inSubject       // words
	inFrom          // words and whole addresses of the sender and the From field
	inTo            // likewise, of To
	inCc            // and of Cc
	inName          // words of attachments' names
	isID            // Message-ID
	ofMailbox       // who may see it
	ofDomain        // and their domains
	ofKind          // direction, and hasAttachment
	ofRoute         // primary, portal, internet
	ofSize          // the size's number of bits; its position is the size + 1
	fieldCount
	attachedKind = "attachment"
)

const fieldGap = 4 // positions between texts of one field, so that no phrase spans two

// text adds the words of a text and returns the position of the next one.
func (p *postings) text(f field, folded string, n int, at uint64) uint64 {
	for word := range query.WordsOf(folded) {
		at++
		p.add(f, word, n, at)
	}
	return at + fieldGap
}

// addresses adds the words of a header with addresses, and the addresses.
func (p *postings) addresses(f field, text string, n int, at uint64) uint64 {
	folded := query.Fold(text)
	at = p.text(f, folded, n, at)
	for a := range query.Addresses(folded) {
		p.add(f, a, n, 0)
	}
	return at
}

// message adds all by which message n of the batch is found.
func (p *postings) message(m *IndexedMessage, n int) {
	for _, a := range m.Mailboxes {
		p.add(ofMailbox, clean(a), n, 0)
		p.add(ofDomain, clean(domainOf(a)), n, 0)
	}
	p.add(ofKind, clean(m.Direction), n, 0)
	if len(m.Attachments) > 0 {
		p.add(ofKind, attachedKind, n, 0)
	}
	for _, r := range m.Route {
		p.add(ofRoute, clean(r), n, 0)
	}
	p.add(ofSize, sizeWord(m.Size), n, uint64(max(m.Size, 0))+1)
	if id := query.FoldID(m.MessageID); id != "" {
		p.add(isID, id, n, 0)
	}
	p.text(inSubject, query.Fold(m.Subject), n, 0)
	p.addresses(inFrom, m.FromHeader, n, p.addresses(inFrom, m.Sender, n, 0))
	p.addresses(inTo, m.ToHeader, n, 0)
	p.addresses(inCc, m.CcHeader, n, 0)
	at := uint64(0)
	for _, name := range m.Attachments {
		at = p.text(inName, query.Fold(name), n, at)
	}
	p.text(inBody, query.Fold(m.Text), n, 0)
}

// sizeWord is a size's number of bits; all large ones count as one.
func sizeWord(size int64) string { return strconv.Itoa(sizeBits(size)) }

func sizeBits(size int64) int { return min(bits.Len64(uint64(max(size, 0))), maxSizeBits) }

const maxSizeBits = 32

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
