package mime

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	openMemory  = 384 << 20 // bytes that messages being taken apart may take at once
	openCost    = 3         // bytes for each of a message: itself, and its parts decoded while they grow
	openWhole   = 32 << 20  // a message up to this is shown whole, of a larger one the begin of each part
	openTimeout = 4 * time.Second
	maxBody     = 2 << 20 // of text, and of HTML
)

var (
	forView = limits{part: openWhole, total: openWhole, dashes: 20_000}
	forPart = limits{part: 128 << 20, total: 128 << 20, dashes: 200_000}
)

// What a message cannot be taken apart for.
var (
	ErrBusy   = errors.New("too many messages are being opened just now")
	ErrWhole  = errors.New("the message can only be had whole") // a part of it, as it was, cannot be told
	ErrNoPart = errors.New("the message has no such part")
)

// Message is a message taken apart for a person to read. All text is valid
// UTF-8; HTML is foreign and must be sanitised.
type Message struct {
	Subject, From, To, Cc, Bcc, Date, MessageID string

	Text    string // the text parts, and the words of HTML that has no text beside it
	HTML    string // the HTML parts and, between them, the text that has no HTML beside it; "" when there is no HTML
	Parts   []Part // all else, in order
	Partial bool   // something was too large, or too odd, to be looked at
}

// Part is a file in a message.
type Part struct {
	Number    int    // its place among the parts, from 0
	Name      string // "" when it has none
	Type      string // media type as stated, in lower case
	ContentID string // without angle brackets
	Size      int    // decoded, in bytes; -1 when that is not known
	Content   []byte // decoded; not all of it when Size is -1
}

// Opener takes messages apart, several at once as far as memory allows.
type Opener struct {
	memory  *semaphore.Weighted
	timeout time.Duration // of taking one apart
}

// NewOpener returns an Opener.
func NewOpener() *Opener { return &Opener{semaphore.NewWeighted(openMemory), openTimeout} }

// Open takes apart a message of size bytes. With an error that is not ErrBusy
// there is still all that could be read.
func (o *Opener) Open(ctx context.Context, body io.Reader, size int64) (*Message, error) {
	keep := forView
	if size > openWhole {
		keep = forIndex
	}
	m, changed, err := o.open(ctx, body, min(size, int64(keep.total)), keep)
	if m == nil {
		return nil, err
	}
	if m.Partial = m.Partial || changed || err != nil; changed {
		for i := range m.Parts {
			m.Parts[i].Size = -1
		}
	}
	return m, err
}

// Part returns a part with its content exactly as it was sent, or ErrWhole.
func (o *Opener) Part(ctx context.Context, body io.Reader, size int64, number int) (*Part, error) {
	if size > int64(forPart.total) {
		return nil, ErrWhole
	}
	m, changed, err := o.open(ctx, body, size, forPart)
	switch {
	case errors.Is(err, ErrBusy):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrWhole, err)
	case changed:
		return nil, ErrWhole
	case number < 0 || number >= len(m.Parts):
		return nil, ErrNoPart
	}
	return &m.Parts[number], nil
}

// open parses in a goroutine of its own, which is given up after a time: it
// ends at its next read, and keeps its share of the memory until then.
func (o *Opener) open(ctx context.Context, body io.Reader, size int64, keep limits) (*Message, bool, error) {
	weight := min(openMemory, max(1<<20, openCost*size))
	wait, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if err := o.memory.Acquire(wait, weight); err != nil {
		return nil, false, ErrBusy
	}
	keep.expect = int(min(size, int64(keep.total)))
	data, changed, readErr := squeeze(body, bufio.NewReaderSize(nil, lineBytes), keep)
	type result struct {
		m   *Message
		err error
	}
	done, deadline := make(chan result, 1), time.Now().Add(o.timeout)
	go func() {
		defer o.memory.Release(weight)
		m, err := takeApart(data, deadline)
		done <- result{m, err}
	}()
	timer := time.NewTimer(o.timeout)
	defer timer.Stop()
	select {
	case r := <-done:
		return r.m, changed, errors.Join(readErr, r.err)
	case <-timer.C:
		return letterhead(data), changed, errors.Join(readErr, fmt.Errorf("open message: not done in %v", o.timeout))
	}
}

var shown = map[string]bool{"subject": true, "from": true, "to": true, "cc": true, "bcc": true, "date": true, "message-id": true, "content-type": true}

// letterhead reads what stands above a message.
func letterhead(data []byte) *Message {
	raw := fields(data[:min(len(data), maxHeader)], shown)
	hint := ""
	if m := charsetParam.FindStringSubmatch(raw["content-type"]); m != nil {
		hint = m[1]
	}
	field := func(name string, limit int) string { return decodeField(raw[name], hint, limit) }
	return &Message{Subject: field("subject", maxSubject), From: field("from", maxAddresses), To: field("to", maxAddresses), Cc: field("cc", maxAddresses),
		Bcc: field("bcc", maxAddresses), Date: field("date", maxMessageID), MessageID: field("message-id", maxMessageID)}
}
