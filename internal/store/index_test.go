package store

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
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
	// Much of a long text is found.
	rows, _, err := s.SearchMessages(t.Context(), MessageFilter{Access: Access{All: true}, Text: "w9000"})
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
		{"word of the text", MessageFilter{Access: Access{All: true}, Text: "word7"}, 1},
		{"accents and case aside", MessageFilter{Access: Access{All: true}, Text: "NUMERO jose"}, 9},
		{"with accents", MessageFilter{Access: Access{All: true}, Text: "número"}, 9},
		{"phrase", MessageFilter{Access: Access{All: true}, Text: `"text word7"`}, 1},
		{"not", MessageFilter{Access: Access{All: true}, Text: "text -word7"}, 8},
		{"part of an attachment's name", MessageFilter{Access: Access{All: true}, Text: "factura"}, 9},
		{"part of an address", MessageFilter{Access: Access{All: true}, Text: "internet"}, 9},
		{"Bcc is not searched", MessageFilter{Access: Access{All: true}, Text: "bcc"}, 0},
		{"hostile words", MessageFilter{Access: Access{All: true}, Text: "'\"&|!():*\\\x00\xff"}, 0},
		{"subject", MessageFilter{Access: Access{All: true}, Subject: "número 7"}, 1},
		{"wildcards are literal", MessageFilter{Access: Access{All: true}, Subject: "%"}, 0},
		{"from", MessageFilter{Access: Access{All: true}, From: "ana@"}, 1},
		{"from header", MessageFilter{Access: Access{All: true}, From: "JOSÉ"}, 9},
		{"to", MessageFilter{Access: Access{All: true}, To: "ANA@example"}, 9},
		{"to does not tell of Bcc", MessageFilter{Access: Access{Mailbox: "ana@example.test"}, To: "bcc@other.test"}, 0},
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
		pages(t, s, access, 9)
	}
}

// pages reads page by page and checks that each message comes once, newest
// first.
func pages(t *testing.T, s *Store, access Access, want int) {
	t.Helper()
	seen := map[uuid.UUID]bool{}
	f := MessageFilter{Access: access, Limit: 2}
	last := time.Now().AddDate(100, 0, 0)
	for range want {
		rows, next, err := s.SearchMessages(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			if seen[r.ID] || r.Received.After(last) {
				t.Errorf("%+v: %s again, or out of order", access, r.ID)
			}
			seen[r.ID], last = true, r.Received
		}
		if next == nil {
			break
		}
		f.Cursor = *next
	}
	if len(seen) != want {
		t.Errorf("%+v: %d messages on all pages, want %d", access, len(seen), want)
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

func TestFold(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"Évora": "evora", "E\u0301vora": "evora", "ＦＵＬＬ": "full", "Привет": "привет", "한글": "한글", "हिन्दी": "हिन्दी", "İ": "i", "ABC": "abc", "\xff": "\uFFFD"} {
		if got := fold(in); got != want {
			t.Errorf("fold(%q) = %q, want %q", in, got, want)
		}
	}
}
