package store

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"understudy/internal/query"
)

var day = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// sample makes n messages of different seconds.
func sample(n int) (out []IndexedMessage) {
	for i := range n {
		out = append(out, IndexedMessage{ID: uuid.Must(uuid.NewV7()), Received: day.Add(time.Duration(i) * time.Second), Direction: "inbound",
			Sender: "out@internet.test", Recipients: []string{"ana@example.test", "bcc@other.test", "x@elsewhere.test"},
			Mailboxes: []string{"ana@example.test", "bcc@other.test"}, Subject: fmt.Sprintf("Número %d", i),
			FromHeader: "José <jose@internet.test>", ToHeader: "ana@example.test", Attachments: []string{fmt.Sprintf("Factura_%d.pdf", i)},
			MessageID: "<1@x>", Size: 100, Client: "192.0.2.1", SASLUser: "u@x", Segment: "s1", Offset: int64(i * 10), Length: 10, Text: fmt.Sprintf("text word%d 100%%", i)})
	}
	return out
}

func TestIndexBatch(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ctx := t.Context()
	m := sample(5)
	if err := s.IndexBatch(ctx, IndexBatch{Segment: "s1", To: 30, Messages: m[:3]}); err != nil {
		t.Fatal(err)
	}
	// The next day's partition does not exist either; one message is there already.
	m[4].Received = day.AddDate(0, 0, 1)
	if err := s.IndexBatch(ctx, IndexBatch{Segment: "s1", From: 30, To: 60, Sealed: true, Damaged: 7, Messages: m[2:]}); err != nil {
		t.Fatal(err)
	}
	err := s.IndexBatch(ctx, IndexBatch{Segment: "s1", From: 30, To: 90, Messages: sample(1)})
	if !errors.Is(err, ErrConflict) {
		t.Errorf("a batch from the wrong place: %v", err)
	}
	got, err := s.SegmentOffsets(ctx)
	want := map[string]Checkpoint{"s1": {Segment: "s1", Indexed: 60, Sealed: true, Damaged: 7, Records: 6}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	var messages, boxes int
	err = s.Pool.QueryRow(ctx, `SELECT (SELECT count(*) FROM message), (SELECT count(*) FROM message_mailbox)`).Scan(&messages, &boxes)
	if err != nil || messages != 5 || boxes != 10 {
		t.Errorf("%d messages, %d of mailboxes, %v", messages, boxes, err)
	}
}

// TestIndexBatchAllOrNothing: a refused message leaves no trace of its batch.
func TestIndexBatchAllOrNothing(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	m := sample(3)
	m[2].Received = time.Date(300_000, 1, 1, 0, 0, 0, 0, time.UTC)
	if err := s.IndexBatch(t.Context(), IndexBatch{Segment: "s1", To: 30, Messages: m}); err == nil {
		t.Fatal("no error")
	}
	m = sample(3)
	m[1].Direction = strings.Repeat("x", 3)
	if err := s.IndexBatch(t.Context(), IndexBatch{Segment: "s1", To: 30, Messages: m}); !errors.Is(err, ErrInvalid) {
		t.Errorf("got %v, want ErrInvalid", err)
	}
	if got, err := s.SegmentOffsets(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("checkpoints %v, %v", got, err)
	}
}

// TestHostileText: whatever a message says, PostgreSQL takes it.
func TestHostileText(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	var many, hosts, hyphens strings.Builder
	for i := range 300_000 {
		fmt.Fprintf(&many, "w%x ", i)
		fmt.Fprintf(&hosts, "http://h%x.a.b/c/d?e=%d ", i, i)
		fmt.Fprintf(&hyphens, "a%x-b-c-d-e-%d ", i, i)
	}
	texts := []string{many.String(), hosts.String(), hyphens.String(), strings.Repeat("é\xff\x00", 100_000), strings.Repeat("x", 1<<20),
		strings.Repeat("same words again ", 60_000), strings.Repeat("日本語", 100_000), "", "\x00", strings.Repeat("a ", 500_000)}
	m := sample(len(texts))
	for i := range m {
		m[i].Text = texts[i]
		m[i].Subject = texts[i][:min(len(texts[i]), 60_000)]
		m[i].ToHeader, m[i].FromHeader, m[i].MessageID = m[i].Subject, m[i].Subject, "\x00\xff"
		m[i].Attachments = []string{m[i].Subject}
		m[i].Recipients = append(m[i].Recipients, "\xff\x00@x")
	}
	if err := s.IndexBatch(t.Context(), IndexBatch{Segment: "s1", To: 30, Messages: m}); err != nil {
		t.Fatal(err)
	}
	if unfound, err := s.Unfound(t.Context(), m[3:]); err != nil || len(unfound) > 0 {
		t.Errorf("not found by some words: %v, %v", unfound, err)
	}
	// Much of a long text is found.
	rows, _, err := s.SearchMessages(t.Context(), MessageFilter{Access: Access{All: true}, Query: parse(t, "w9000")})
	if err != nil || len(rows) != 1 {
		t.Errorf("%d rows, %v", len(rows), err)
	}
}

func TestSearch(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ctx := t.Context()
	m := sample(9)
	m[3].Direction = "outbound"
	m[3].Sender = "ana@example.test"
	m[4].Received = m[5].Received // a tie
	m[6].Text += " Łódź οδός"
	if err := s.IndexBatch(ctx, IndexBatch{Segment: "s1", To: 90, Messages: m}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		f    MessageFilter
		want int
	}{
		{"nobody", MessageFilter{}, 0},
		{"operator", MessageFilter{Access: Access{All: true}}, 9},
		{"domain admin", MessageFilter{Access: Access{Domains: []string{"example.test"}}}, 9},
		{"of two domains", MessageFilter{Access: Access{Domains: []string{"example.test", "other.test"}}}, 9},
		{"of another domain", MessageFilter{Access: Access{Domains: []string{"elsewhere.test"}}}, 0},
		{"mailbox", MessageFilter{Access: Access{Mailbox: "ana@example.test"}}, 9},
		{"recipient that is not covered", MessageFilter{Access: Access{Mailbox: "x@elsewhere.test"}}, 0},
		{"mailbox within access", MessageFilter{Access: Access{Domains: []string{"example.test"}}, Mailbox: "ana@example.test"}, 9},
		{"mailbox outside of access", MessageFilter{Access: Access{Mailbox: "x@elsewhere.test"}, Mailbox: "ana@example.test"}, 0},
		{"word of the text", MessageFilter{Access: Access{All: true}, Query: parse(t, `word7`)}, 1},
		{"accents and case aside", MessageFilter{Access: Access{All: true}, Query: parse(t, `NUMERO jose`)}, 9},
		{"with accents", MessageFilter{Access: Access{All: true}, Query: parse(t, `número`)}, 9},
		{"phrase", MessageFilter{Access: Access{All: true}, Query: parse(t, `"text word7"`)}, 1},
		{"no phrase", MessageFilter{Access: Access{All: true}, Query: parse(t, `"word7 text"`)}, 0},
		{"not", MessageFilter{Access: Access{All: true}, Query: parse(t, `text -word7`)}, 8},
		{"only not", MessageFilter{Access: Access{All: true}, Query: parse(t, `-word7`)}, 8},
		{"or", MessageFilter{Access: Access{All: true}, Query: parse(t, `word7 OR word8`)}, 2},
		{"prefix", MessageFilter{Access: Access{All: true}, Query: parse(t, `wor*`)}, 9},
		{"prefix of another", MessageFilter{Access: Access{All: true}, Query: parse(t, `ord*`)}, 0},
		{"part of an attachment's name", MessageFilter{Access: Access{All: true}, Query: parse(t, `factura`)}, 9},
		{"attachment's name", MessageFilter{Access: Access{All: true}, Query: parse(t, `filename:factura_7.pdf`)}, 1},
		{"not an attachment's name", MessageFilter{Access: Access{All: true}, Query: parse(t, `filename:text`)}, 0},
		{"part of an address", MessageFilter{Access: Access{All: true}, Query: parse(t, `internet`)}, 9},
		{"Bcc is not searched", MessageFilter{Access: Access{All: true}, Query: parse(t, `bcc`)}, 0},
		{"subject", MessageFilter{Access: Access{All: true}, Query: parse(t, `subject:"número 7"`)}, 1},
		{"subject only", MessageFilter{Access: Access{All: true}, Query: parse(t, `subject:text`)}, 0},
		{"phrases end with their field", MessageFilter{Access: Access{All: true}, Query: parse(t, `"7 out"`)}, 0},
		{"from", MessageFilter{Access: Access{All: true}, Query: parse(t, `from:ana`)}, 1},
		{"from address", MessageFilter{Access: Access{All: true}, Query: parse(t, `from:ana@EXAMPLE.test`)}, 1},
		{"from domain", MessageFilter{Access: Access{All: true}, Query: parse(t, `from:@internet.test`)}, 9},
		{"from header", MessageFilter{Access: Access{All: true}, Query: parse(t, `from:JOSÉ`)}, 9},
		{"to", MessageFilter{Access: Access{All: true}, Query: parse(t, `to:ANA@example`)}, 9},
		{"to address", MessageFilter{Access: Access{All: true}, Query: parse(t, `to:ana@example.test`)}, 9},
		{"Bcc in to", MessageFilter{Access: Access{All: true}, Query: parse(t, `to:bcc`)}, 0},
		{"body", MessageFilter{Access: Access{All: true}, Query: parse(t, `body:text`)}, 9},
		{"body is not the header", MessageFilter{Access: Access{All: true}, Query: parse(t, `body:jose`)}, 0},
		{"id", MessageFilter{Access: Access{All: true}, Query: parse(t, `id:<1@X>`)}, 9},
		{"attachment", MessageFilter{Access: Access{All: true}, Query: parse(t, `has:attachment`)}, 9},
		{"no attachment", MessageFilter{Access: Access{All: true}, Query: parse(t, `-has:attachment`)}, 0},
		{"direction", MessageFilter{Access: Access{All: true}, Query: parse(t, `direction:out`)}, 1},
		{"size", MessageFilter{Access: Access{All: true}, Query: parse(t, `size:>99`)}, 9},
		{"larger than any", MessageFilter{Access: Access{All: true}, Query: parse(t, `size:>100`)}, 0},
		{"large", MessageFilter{Access: Access{All: true}, Query: parse(t, `size:>5M`)}, 0},
		{"smaller", MessageFilter{Access: Access{All: true}, Query: parse(t, `smaller:101`)}, 9},
		{"size or word", MessageFilter{Access: Access{All: true}, Query: parse(t, `size:>5M OR word7`)}, 1},
		{"not both", MessageFilter{Access: Access{All: true}, Query: parse(t, `-(word7 size:<5M)`)}, 8},
		{"day", MessageFilter{Access: Access{All: true}, Query: parse(t, `on:2026-03-01`)}, 9},
		{"day before", MessageFilter{Access: Access{All: true}, Query: parse(t, `on:2026-02-28`)}, 0},
		{"times", MessageFilter{Access: Access{All: true}, Query: parse(t, `after:2026-03-01 before:2026-03-02`)}, 9},
		{"time within or", MessageFilter{Access: Access{All: true}, Query: parse(t, `before:2026-03-01 OR word3`)}, 1},
		{"mailbox", MessageFilter{Access: Access{All: true}, Query: parse(t, `mailbox:bcc@other.test`)}, 9},
		{"letters with strokes, and the last sigma", MessageFilter{Access: Access{All: true}, Query: parse(t, `lodz ΟΔΟΣ`)}, 1},
		{"hostile words", MessageFilter{Access: Access{All: true}, Query: parse(t, `'\"\\ & | ! x`)}, 0},
		{"mailbox of others is not to be asked for", MessageFilter{Access: Access{Mailbox: "ana@example.test"}, Query: parse(t, "mailbox:bcc@other.test")}, 0},
		{"nor by its opposite", MessageFilter{Access: Access{Mailbox: "ana@example.test"}, Query: parse(t, "-mailbox:bcc@other.test")}, 9},
		{"nor by admins of others", MessageFilter{Access: Access{Domains: []string{"example.test"}}, Query: parse(t, "word7 OR mailbox:bcc@other.test")}, 1},
		{"own words", MessageFilter{Access: Access{Mailbox: "ana@example.test"}, Query: parse(t, "word7 OR word8")}, 2},
		{"of two domains, words", MessageFilter{Access: Access{Domains: []string{"example.test", "other.test"}}, Query: parse(t, "word7")}, 1},
		{"to does not tell of Bcc", MessageFilter{Access: Access{Mailbox: "ana@example.test"}, Query: parse(t, "to:bcc@other.test")}, 0},
		{"direction", MessageFilter{Access: Access{All: true}, Direction: "outbound"}, 1},
		{"after", MessageFilter{Access: Access{All: true}, After: day.Add(7 * time.Second)}, 2},
		{"before", MessageFilter{Access: Access{All: true}, Before: day.Add(2 * time.Second)}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			rows, next, err := s.SearchMessages(t.Context(), c.f)
			if err != nil || len(rows) != c.want || next != nil {
				t.Errorf("%d rows, next %v, %v; want %d", len(rows), next, err, c.want)
			}
		})
	}
	for _, access := range []Access{{All: true}, {Domains: []string{"example.test", "other.test"}}, {Mailbox: "bcc@other.test"}} {
		if got := pages(t, s, MessageFilter{Access: access, Limit: 2}); len(got) != 9 {
			t.Errorf("%+v: %d messages on all pages, want 9", access, len(got))
		}
	}
}

// pages reads all pages and checks that each message comes once, newest first.
func pages(t *testing.T, s *Store, f MessageFilter) map[uuid.UUID]bool {
	t.Helper()
	seen := map[uuid.UUID]bool{}
	last := time.Now().AddDate(100, 0, 0)
	for {
		rows, next, err := s.SearchMessages(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			if seen[r.ID] || r.Received.After(last) {
				t.Errorf("%+v: %s again, or out of order", f.Access, r.ID)
			}
			seen[r.ID], last = true, r.Received
		}
		if next == nil {
			return seen
		}
		f.Cursor = *next
	}
}

// TestBccOfOthersIsNeverShown, for each who may ask.
func TestBccOfOthersIsNeverShown(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	m := sample(2)
	m[1].Sender, m[1].Direction = "ana@Example.test", "outbound"
	if err := s.IndexBatch(t.Context(), IndexBatch{Segment: "s1", To: 20, Messages: m}); err != nil {
		t.Fatal(err)
	}
	all := m[0].Recipients
	for _, c := range []struct {
		name    string
		access  Access
		message int
		want    []string
		err     error
	}{
		{"operator", Access{All: true}, 0, all, nil},
		{"admin of a recipient's domain", Access{Domains: []string{"example.test"}}, 0, all[:1], nil},
		{"admin of both", Access{Domains: []string{"example.test", "other.test"}}, 0, all[:2], nil},
		{"admin of the sender's domain", Access{Domains: []string{"example.test"}}, 1, all, nil},
		{"admin of another", Access{Domains: []string{"no.test"}}, 0, nil, ErrNotFound},
		{"recipient", Access{Mailbox: "ana@example.test"}, 0, []string{}, nil},
		{"blind recipient", Access{Mailbox: "bcc@other.test"}, 0, []string{}, nil},
		{"nobody", Access{}, 0, nil, ErrNotFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			row, err := s.Message(t.Context(), c.access, m[c.message].ID)
			if !errors.Is(err, c.err) {
				t.Fatalf("got %v, want %v", err, c.err)
			}
			if err != nil {
				return
			}
			if diff := cmp.Diff(c.want, row.Recipients); diff != "" {
				t.Error(diff)
			}
			if owner := c.access.Mailbox != ""; owner != (row.Client == "") || owner != (row.SASLUser == "") {
				t.Errorf("client %q, user %q", row.Client, row.SASLUser)
			}
		})
	}
}

func parse(t *testing.T, text string) *query.Query {
	t.Helper()
	q, err := query.Parse(text)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return q
}
