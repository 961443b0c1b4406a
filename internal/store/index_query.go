package store

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"understudy/internal/query"
)

// plan is a query with what must be read of each day to answer it.
type plan struct {
	access Access
	now    time.Time
	root   query.Node // without what after and before say; nil is true of all
	after  time.Time
	before time.Time // zero: no bound

	words    map[string]bool // whose postings are needed; true: with their positions
	prefixes map[string]bool // likewise, of all words that begin so
	fields   map[int16]bool
	ids      []uuid.UUID         // archive ids that are asked for
	times    []query.Time        // within OR or NOT
	byID     map[uuid.UUID]place // where the ids are

	sql  string // see prepare; "" when no postings are needed
	args []any
}

// newPlan plans the search of a filter, whose query is root.
func newPlan(f *MessageFilter, root query.Node, now time.Time) *plan {
	p := &plan{access: f.Access, now: now, after: f.After, before: f.Before,
		words: map[string]bool{}, prefixes: map[string]bool{}, fields: map[int16]bool{}}
	var all query.And
	for _, n := range flatten(root) {
		if t, ok := n.(query.Time); ok {
			p.bound(t)
			continue
		}
		all = append(all, n)
	}
	if scope := p.scope(); scope != nil {
		all = append(all, scope)
	}
	if len(all) > 0 {
		slices.SortStableFunc(all, func(a, b query.Node) int { return cmp.Compare(effort(a), effort(b)) })
		p.root = all
		p.need(all)
	}
	p.prepare()
	return p
}

func (p *plan) bound(t query.Time) {
	at := t.Moment.On(p.now)
	if t.Before && (p.before.IsZero() || at.Before(p.before)) {
		p.before = at
	} else if !t.Before && at.After(p.after) {
		p.after = at
	}
}

// effort is how late a node is best evaluated: when few messages are left.
func effort(n query.Node) int {
	switch n := n.(type) {
	case query.Words:
		if len(n.List) > 1 {
			return 3
		}
		return 1
	case query.And, query.Or, query.Not, query.Size:
		return 2
	}
	return 0
}

func flatten(n query.Node) []query.Node {
	and, ok := n.(query.And)
	if !ok && n != nil {
		return []query.Node{n}
	}
	var out []query.Node
	for _, x := range and {
		out = append(out, flatten(x)...)
	}
	return out
}

// root is all of the filter that is a query.
func (f *MessageFilter) root() query.Node {
	var all query.And
	if f.Query != nil && f.Query.Root != nil {
		all = append(all, f.Query.Root)
	}
	if f.Mailbox != "" {
		all = append(all, query.Mailbox(f.Mailbox))
	}
	if f.Direction != "" {
		all = append(all, query.Direction(f.Direction))
	}
	return all
}

// need notes which postings a node wants.
func (p *plan) need(n query.Node) {
	switch n := n.(type) {
	case query.And:
		for _, x := range n {
			p.need(x)
		}
	case query.Or:
		for _, x := range n {
			p.need(x)
		}
	case query.Not:
		p.need(n.Of)
	case query.Words:
		p.needWords(n)
	case query.Size:
		for _, w := range sizeWords(n) {
			p.needTerm(ofSize, w, true)
		}
	case query.Time:
		p.times = append(p.times, n)
	case query.MessageID:
		p.needTerm(isID, string(n), false)
		if id, err := uuid.Parse(string(n)); err == nil {
			p.ids = append(p.ids, id)
		}
	default:
		for _, t := range p.terms(n) {
			p.needTerm(t.field, t.word, false)
		}
	}
}

func (p *plan) needTerm(f field, word string, positions bool) {
	p.words[word] = p.words[word] || positions
	p.fields[int16(f)] = true
}

func (p *plan) needWords(w query.Words) {
	phrase := len(w.List) > 1
	for i, word := range w.List {
		if w.Prefix && i == len(w.List)-1 {
			p.prefixes[word] = p.prefixes[word] || phrase
		} else {
			p.words[word] = p.words[word] || phrase
		}
	}
	for _, f := range textFields(w.Field) {
		p.fields[int16(f)] = true
	}
}

// prepare makes sql and args, by which postings are read: columns from TABLE,
// which stands for a table and the begin of a condition.
func (p *plan) prepare() {
	var placed []string
	for w, positions := range p.words {
		if positions {
			placed = append(placed, w)
		}
	}
	var parts []string
	p.args = append(p.args, slices.Sorted(maps.Keys(p.fields)))
	// field + 0: each word is looked up once, not once for each field.
	part := func(pos, where string, values ...any) {
		parts = append(parts, "SELECT word, field, docs, "+pos+" FROM TABLE AND field + 0 = ANY($1::int2[]) AND "+where)
		p.args = append(p.args, values...)
	}
	arg := func(n int) string { return "$" + strconv.Itoa(len(p.args)+n) }
	if len(p.words) > 0 { // one statement for all queries: each costs some planning, for each day
		part("CASE WHEN word = ANY("+arg(2)+") THEN pos ELSE '' END", "word = ANY("+arg(1)+")", slices.Sorted(maps.Keys(p.words)), placed)
	}
	for _, w := range slices.Sorted(maps.Keys(p.prefixes)) {
		pos := "''::bytea"
		if p.prefixes[w] {
			pos = "pos"
		}
		part(pos, "word >= "+arg(1)+" AND word < "+arg(2), w, w+"\U0010FFFF")
	}
	p.sql = strings.Join(parts, " UNION ALL ")
}
