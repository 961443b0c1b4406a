package store

import (
	"strconv"

	"understudy/internal/query"
)

// term is one posting list, as a node of a query.
type term struct {
	query.Node
	field field
	word  string
}

// scope is the messages that may be seen. It only makes the search fast: who
// may see what is decided when rows are read.
func (p *plan) scope() query.Node {
	switch a := p.access; {
	case a.All:
		return nil
	case len(a.Domains) > 0:
		var or query.Or
		for _, d := range a.Domains {
			or = append(or, term{field: ofDomain, word: clean(d)})
		}
		return or
	default: // of the mailbox "" there is nothing
		return term{field: ofMailbox, word: clean(a.Mailbox)}
	}
}

// mayAsk reports whether it may be asked whether a mailbox got a message. Who
// else got it blindly is nobody's to find out.
func (p *plan) mayAsk(mailbox string) bool {
	return p.access.Covers(mailbox)
}

// terms are the posting lists of a node that is true of what any of them has.
func (p *plan) terms(n query.Node) []term {
	switch n := n.(type) {
	case term:
		return []term{n}
	case query.Address:
		var out []term
		for _, f := range textFields(n.Field) {
			out = append(out, term{field: f, word: n.Text})
		}
		return out
	case query.HasAttachment:
		return []term{{field: ofKind, word: attachedKind}}
	case query.Direction:
		return []term{{field: ofKind, word: string(n)}}
	case query.Route:
		return []term{{field: ofRoute, word: string(n)}}
	case query.Mailbox:
		if p.mayAsk(string(n)) {
			return []term{{field: ofMailbox, word: clean(string(n))}}
		}
	}
	return nil
}

// textFields are the fields whose words are looked at.
func textFields(f query.Field) []field {
	switch f {
	case query.Subject:
		return []field{inSubject}
	case query.From:
		return []field{inFrom}
	case query.To:
		return []field{inTo}
	case query.Cc:
		return []field{inCc}
	case query.Filename:
		return []field{inName}
	case query.Body:
		return []field{inBody}
	}
	return []field{inBody, inSubject, inFrom, inTo, inCc, inName}
}

// sizeWords are those that sizes have for which a comparison may be true.
func sizeWords(s query.Size) (out []string) {
	for n := range maxSizeBits + 1 {
		if border := sizeBits(s.Bytes); n == border || n > border == s.Larger {
			out = append(out, strconv.Itoa(n))
		}
	}
	return out
}
