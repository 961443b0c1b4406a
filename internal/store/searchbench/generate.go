package main

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/google/uuid"

	"understudy/internal/store"
)

const (
	days      = 89
	domains   = 10
	mailboxes = 500
	alphabet  = "etaoinsrhldcumfpgwybvk"
)

// generator makes messages whose words are as unevenly common as those of
// natural text (Zipf's law), and so are their mailboxes.
type generator struct {
	messages int
	begin    time.Time
	words    []string // the most common first
	boxes    []string
	rank     *rand.Zipf
	box      *rand.Zipf
	rng      *rand.Rand
}

func newGenerator(messages int) *generator {
	rng := rand.New(rand.NewPCG(1, 2))
	g := &generator{messages: messages, rng: rng, begin: time.Now().UTC().Truncate(time.Second).AddDate(0, 0, -days)}
	seen := map[string]bool{}
	for len(g.words) < 200_000 {
		var b strings.Builder
		for n := 2 + int(math.Log2(float64(len(g.words)+2))/3) + rng.IntN(6); n > 0; n-- {
			b.WriteByte(alphabet[min(rng.IntN(len(alphabet)), rng.IntN(len(alphabet)))])
		}
		if w := b.String(); !seen[w] {
			seen[w] = true
			g.words = append(g.words, w)
		}
	}
	for i := range mailboxes {
		g.boxes = append(g.boxes, fmt.Sprintf("%s%d@customer%d.test", g.words[1000+i], i, i%domains))
	}
	g.rank = rand.NewZipf(rng, 1.07, 8, uint64(len(g.words)-1))
	g.box = rand.NewZipf(rng, 1.2, 20, mailboxes-1)
	return g
}

func (g *generator) text(n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(g.words[g.rank.Uint64()])
	}
	return b.String()
}

// batch makes n messages from number at on, in the order of their time.
func (g *generator) batch(at, n int) []store.IndexedMessage {
	out := make([]store.IndexedMessage, n)
	for i := range out {
		received := g.begin.Add(time.Duration(float64(at+i) / float64(g.messages) * days * 24 * float64(time.Hour))).Truncate(time.Microsecond)
		box := g.boxes[g.box.Uint64()]
		from := fmt.Sprintf("%s@%s.test", g.words[5000+g.rng.IntN(3000)], g.words[9000+g.rng.IntN(500)])
		m := store.IndexedMessage{ID: g.id(received), Received: received, Direction: "inbound", Sender: from, Recipients: []string{box}, Mailboxes: []string{box},
			Subject: g.text(3 + g.rng.IntN(6)), FromHeader: g.text(2) + " <" + from + ">", ToHeader: box,
			Size: int64(math.Exp(9 + 1.5*g.rng.NormFloat64())), Segment: "generated", Offset: int64(at + i), Length: 1,
			Text: g.text(20 + int(math.Exp(4.5+0.9*g.rng.NormFloat64())))}
		m.MessageID = "<" + m.ID.String()[9:] + "@" + from + ">"
		if g.rng.IntN(4) == 0 {
			m.Direction, m.Sender, m.FromHeader, m.ToHeader = "outbound", box, g.text(2)+" <"+box+">", from
		}
		for g.rng.IntN(4) == 0 {
			m.Mailboxes = append(m.Mailboxes, g.boxes[g.box.Uint64()])
		}
		if g.rng.IntN(5) == 0 {
			m.Attachments = []string{g.text(2) + []string{".pdf", ".jpg", ".docx", ".xlsx"}[g.rng.IntN(4)]}
		}
		out[i] = m
	}
	return out
}

// id is a UUID version 7 of the time.
func (g *generator) id(at time.Time) (id uuid.UUID) {
	binary.BigEndian.PutUint64(id[8:], g.rng.Uint64())
	binary.BigEndian.PutUint64(id[:8], uint64(at.UnixMilli())<<16|g.rng.Uint64N(1<<12))
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id
}
