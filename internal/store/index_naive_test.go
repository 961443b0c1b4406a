package store

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"understudy/internal/query"
)

// naive says whether a query is true of a message, the slow way.
func naive(n query.Node, m *IndexedMessage, now time.Time) bool {
	switch n := n.(type) {
	case nil:
		return true
	case query.And:
		return !slices.ContainsFunc(n, func(x query.Node) bool { return !naive(x, m, now) })
	case query.Or:
		return slices.ContainsFunc(n, func(x query.Node) bool { return naive(x, m, now) })
	case query.Not:
		return !naive(n.Of, m, now)
	case query.Words:
		return slices.ContainsFunc(naiveTexts(n.Field, m), func(text string) bool { return naivePhrase(n, naiveWords(text)) })
	case query.Address:
		return slices.ContainsFunc(naiveTexts(n.Field, m), func(text string) bool {
			return slices.Contains(slices.Collect(query.Addresses(query.Fold(text))), n.Text)
		})
	case query.MessageID:
		return query.FoldID(m.MessageID) == string(n) || m.ID.String() == string(n)
	case query.HasAttachment:
		return len(m.Attachments) > 0
	case query.Direction:
		return m.Direction == string(n)
	case query.Route:
		return slices.Contains(m.Route, string(n))
	case query.Size:
		return n.Larger && m.Size > n.Bytes || !n.Larger && m.Size < n.Bytes
	case query.Time:
		return n.Before == m.Received.Before(n.Moment.On(now))
	case query.Mailbox:
		return slices.Contains(m.Mailboxes, string(n))
	}
	panic(fmt.Sprintf("%T", n))
}

var naiveCache sync.Map

func naiveWords(text string) []string {
	words, ok := naiveCache.Load(text)
	if !ok {
		words = slices.Collect(query.WordsOf(query.Fold(text)))
		naiveCache.Store(text, words)
	}
	return words.([]string)
}

func naiveTexts(f query.Field, m *IndexedMessage) []string {
	switch f {
	case query.Subject:
		return []string{m.Subject}
	case query.From:
		return []string{m.Sender, m.FromHeader}
	case query.To:
		return []string{m.ToHeader}
	case query.Cc:
		return []string{m.CcHeader}
	case query.Filename:
		return m.Attachments
	case query.Body:
		return []string{m.Text}
	}
	return append([]string{m.Subject, m.Sender, m.FromHeader, m.ToHeader, m.CcHeader, m.Text}, m.Attachments...)
}

func naivePhrase(w query.Words, words []string) bool {
	for i := range words {
		if len(words)-i < len(w.List) {
			return false
		}
		if slices.EqualFunc(words[i:i+len(w.List)-1], w.List[:len(w.List)-1], func(a, b string) bool { return a == b }) {
			last, want := words[i+len(w.List)-1], w.List[len(w.List)-1]
			if last == want || w.Prefix && strings.HasPrefix(last, want) {
				return true
			}
		}
	}
	return false
}

var vocabulary = strings.Fields("factura marzo mar marcha março Évora ana bruno a b aa ab aba 日本語 日本 2026 x1 don't re: e-mail привет")

func randomText(rng *rand.Rand, n int) string {
	words := make([]string, rng.IntN(n+1))
	for i := range words {
		words[i] = vocabulary[min(rng.IntN(len(vocabulary)), rng.IntN(len(vocabulary)))]
	}
	return strings.Join(words, []string{" ", ", ", "\n"}[rng.IntN(3)])
}

var naiveBoxes = []string{"ana@a.test", "bruno@a.test", "carla@b.test", "dora@c.test"}

func randomMessage(rng *rand.Rand, begin time.Time, days int) IndexedMessage {
	pick := func() string { return naiveBoxes[rng.IntN(len(naiveBoxes))] }
	m := IndexedMessage{ID: uuid.Must(uuid.NewV7()), Received: begin.Add(time.Duration(rng.IntN(days*24*60)) * time.Minute), Direction: []string{"inbound", "outbound", "internal"}[rng.IntN(3)],
		Sender: pick(), Recipients: []string{pick(), pick()}, Mailboxes: []string{pick()}, Subject: randomText(rng, 5), FromHeader: randomText(rng, 2) + " <" + pick() + ">",
		ToHeader: pick() + ", " + pick(), Size: int64(rng.IntN(300)) << rng.IntN(16), Segment: "s", Text: randomText(rng, 30)}
	m.MessageID = fmt.Sprintf("<%d@%s>", rng.IntN(50), m.Sender)
	if rng.IntN(2) == 0 {
		m.CcHeader, m.Mailboxes = randomText(rng, 1)+" "+pick(), append(m.Mailboxes, pick())
	}
	for rng.IntN(3) == 0 {
		m.Attachments = append(m.Attachments, randomText(rng, 3)+".pdf")
	}
	for _, r := range []string{"primary", "portal", "internet"} {
		if rng.IntN(3) == 0 {
			m.Route = append(m.Route, r)
		}
	}
	return m
}

// randomQuery is a query that a person could type.
func randomQuery(rng *rand.Rand, begin time.Time, messages []IndexedMessage, depth int) string {
	word := func() string { return vocabulary[min(rng.IntN(len(vocabulary)), rng.IntN(len(vocabulary)))] }
	field := []string{"", "", "", "subject:", "from:", "to:", "cc:", "filename:", "body:"}[rng.IntN(9)]
	day := begin.AddDate(0, 0, rng.IntN(4)-1+rng.IntN(2)*rng.IntN(20)).Format(time.DateOnly)
	switch k := rng.IntN(16); {
	case k < 4:
		return field + query.Quote(word())
	case k < 6:
		return field + query.Quote(word()+" "+word())
	case k < 7:
		return field + query.Quote(word()+" ma") + "*"
	case k < 8:
		return field + []string{"ma*", "fa*", "日*", "ab*"}[rng.IntN(4)]
	case k < 9:
		return []string{"from:", "to:", "cc:", "mailbox:"}[rng.IntN(4)] + naiveBoxes[rng.IntN(len(naiveBoxes))]
	case k < 10:
		m := messages[rng.IntN(len(messages))]
		return "id:" + query.Quote([]string{m.MessageID, m.ID.String()}[rng.IntN(2)])
	case k < 11:
		return []string{"has:attachment", "direction:in", "direction:internal", "route:portal", "route:internet"}[rng.IntN(5)]
	case k < 12:
		return fmt.Sprintf("size:%s%d", []string{">", "<"}[rng.IntN(2)], messages[rng.IntN(len(messages))].Size)
	case k < 13:
		return []string{"before:", "after:", "on:"}[rng.IntN(3)] + day
	case depth > 2:
		return word()
	case k < 14:
		return "(" + randomQuery(rng, begin, messages, depth+1) + " OR " + randomQuery(rng, begin, messages, depth+1) + ")"
	case k < 15:
		return "-(" + randomQuery(rng, begin, messages, depth+1) + ")"
	}
	return randomQuery(rng, begin, messages, depth+1) + " " + randomQuery(rng, begin, messages, depth+1)
}

// TestSearchIsAsTheNaiveOne: random messages, in batches of any order and
// size, moved and tidied at any time, and random queries of everybody, page by
// page.
func TestSearchIsAsTheNaiveOne(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			s, rng := newStore(t), rand.New(rand.NewPCG(seed, 11))
			begin := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
			s.now = func() time.Time { return begin.AddDate(0, 0, 30) }
			days := []int{2, 3, 25}[seed] // many: several looks
			var messages []IndexedMessage
			for i := range 20 {
				b := IndexBatch{Segment: fmt.Sprint("s", i), To: 1}
				for range 1 + rng.IntN(1+rng.IntN(500)) {
					b.Messages = append(b.Messages, randomMessage(rng, begin, days))
				}
				if i%5 == 4 { // some are there already
					b.Messages = append(b.Messages, messages[rng.IntN(len(messages))])
				} else {
					messages = append(messages, b.Messages...)
				}
				if i%5 == 4 {
					messages = append(messages, b.Messages[:len(b.Messages)-1]...)
				}
				if err := s.IndexBatch(t.Context(), b); err != nil {
					t.Fatal(err)
				}
				if i%10 == 9 {
					for range days {
						if _, err := s.TidyIndex(t.Context(), 0); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			slices.SortFunc(messages, func(a, b IndexedMessage) int {
				if c := b.Received.Compare(a.Received); c != 0 {
					return c
				}
				return strings.Compare(string(b.ID[:]), string(a.ID[:]))
			})
			for range 60 {
				compareWithNaive(t, s, rng, begin, messages)
			}
		})
	}
}

func compareWithNaive(t *testing.T, s *Store, rng *rand.Rand, begin time.Time, messages []IndexedMessage) {
	access := []Access{{All: true}, {Domains: []string{"a.test"}}, {Domains: []string{"b.test", "c.test"}}, {Mailbox: "ana@a.test"}, {Mailbox: "dora@c.test"}}[rng.IntN(5)]
	text := randomQuery(rng, begin, messages, 0)
	q, err := query.Parse(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	root := hideMailboxes(q.Root, access)
	if owner := access.owner(); owner != "" {
		root = ownersView(root, []string{owner})
	}
	var want, got []uuid.UUID
	for i := range messages {
		m := &messages[i]
		mine := access.All || slices.ContainsFunc(m.Mailboxes, func(a string) bool { return a == access.Mailbox || slices.Contains(access.Domains, domainOf(a)) })
		if mine && naive(root, m, s.now()) {
			want = append(want, m.ID)
		}
	}
	f := MessageFilter{Access: access, Query: q, Limit: 1 + rng.IntN(60)}
	for range 6 { // pages
		rows, next, err := s.SearchMessages(t.Context(), f)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		for _, r := range rows {
			got = append(got, r.ID)
		}
		if next == nil {
			break
		}
		f.Cursor = *next
		if f.Limit*6 < len(want) {
			f.Limit = min(maxPage, f.Limit*2)
		}
	}
	if n := min(len(got), len(want)); len(got) > len(want) || !slices.Equal(got, want[:n]) || len(got) < len(want) && len(got) < 6 {
		t.Errorf("%+v %s: %d found, want %d", access, text, len(got), len(want))
	}
}

// hideMailboxes makes the mailboxes that may not be asked for those of nobody.
func hideMailboxes(n query.Node, a Access) query.Node {
	p := &plan{access: a}
	all := func(list []query.Node) (out []query.Node) {
		for _, x := range list {
			out = append(out, hideMailboxes(x, a))
		}
		return out
	}
	switch n := n.(type) {
	case query.And:
		return query.And(all(n))
	case query.Or:
		return query.Or(all(n))
	case query.Not:
		return query.Not{Of: hideMailboxes(n.Of, a)}
	case query.Mailbox:
		if !p.mayAsk(string(n)) {
			return query.Mailbox("nobody")
		}
	}
	return n
}
