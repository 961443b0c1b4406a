package store

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"understudy/internal/query"
)

// conditions is a query as SQL: arguments are bound, never part of the text.
// The table of messages is m.
type conditions struct {
	access  Access
	now     time.Time
	args    []any
	tsquery string   // that a message must match; "" if nothing is sure to narrow the search
	where   []string // what else must be true
	after   time.Time
	before  time.Time // zero: no bound
	plain   bool      // nothing but the times is asked for
}

// arg adds an argument and returns its placeholder.
func (c *conditions) arg(v any) string {
	c.args = append(c.args, v)
	return fmt.Sprintf("$%d", len(c.args))
}

// add takes a query apart: its parts must all be true.
func (c *conditions) add(root query.Node) {
	parts := flatten(root)
	c.plain = true
	var required, rest []string
	for _, n := range parts {
		switch n := n.(type) {
		case query.Time:
			c.bound(n)
			continue
		case query.Size:
			if n.Larger && n.Bytes >= 1<<20 {
				required = append(required, largerLexemes(n.Bytes))
			}
		}
		c.plain = false
		text, ok := c.text(n)
		switch {
		case !ok:
			c.where = append(c.where, c.sql(n))
		case requires(n):
			required = append(required, text)
		default:
			rest = append(rest, text)
		}
	}
	if len(required) == 0 && c.scope() == "" { // "not this": no index helps
		for _, text := range rest {
			c.where = append(c.where, "m.tsv @@ "+c.arg(text)+"::tsquery")
		}
		return
	}
	if scope := c.scope(); scope != "" {
		required = append(required, scope)
	}
	c.tsquery = strings.Join(append(required, rest...), " & ")
}

// scope is the tsquery of whose messages may be seen. It only makes the search
// fast: who may see what is decided again when rows are read.
func (c *conditions) scope() string {
	switch {
	case c.access.All:
		return ""
	case len(c.access.Domains) > 0:
		var all []string
		for _, d := range c.access.Domains {
			all = append(all, lexeme(domainPrefix+clean(d)))
		}
		return "(" + strings.Join(all, " | ") + ")"
	case c.access.Mailbox != "":
		return lexeme(mailboxPrefix + clean(c.access.Mailbox))
	}
	return lexeme(noLexeme)
}

// mayAsk reports whether it may be asked whether a mailbox got a message. Who
// else got it blindly is nobody's to find out.
func (c *conditions) mayAsk(mailbox string) bool {
	a := c.access
	return a.All || slices.Contains(a.Domains, domainOf(mailbox)) || a.Mailbox == mailbox && len(a.Domains) == 0
}

func (c *conditions) bound(t query.Time) {
	at := t.Moment.On(c.now)
	if t.Before && (c.before.IsZero() || at.Before(c.before)) {
		c.before = at
	} else if !t.Before && at.After(c.after) {
		c.after = at
	}
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

// text is a node as tsquery text, if it can be one.
func (c *conditions) text(n query.Node) (string, bool) {
	switch n := n.(type) {
	case query.And:
		return c.join(n, " & ")
	case query.Or:
		return c.join(n, " | ")
	case query.Not:
		text, ok := c.text(n.Of)
		return "!" + text, ok
	case query.Words:
		return phrase(n), true
	case query.Address:
		return lexeme(fieldPrefix(n.Field) + n.Text), true
	case query.MessageID:
		return lexeme(idPrefix + string(n)), true
	case query.HasAttachment:
		return lexeme(attached), true
	case query.Direction:
		return lexeme(kindPrefix + string(n)), true
	case query.Mailbox:
		if !c.mayAsk(string(n)) {
			return lexeme(noLexeme), true
		}
		return lexeme(mailboxPrefix + clean(string(n))), true
	}
	return "", false
}

func (c *conditions) join(nodes []query.Node, operator string) (string, bool) {
	var all []string
	for _, n := range nodes {
		text, ok := c.text(n)
		if !ok {
			return "", false
		}
		all = append(all, text)
	}
	return "(" + strings.Join(all, operator) + ")", true
}

// sql is a node as an SQL condition, never null.
func (c *conditions) sql(n query.Node) string {
	if text, ok := c.text(n); ok {
		return "m.tsv @@ " + c.arg(text) + "::tsquery"
	}
	list := func(nodes []query.Node, operator string) string {
		var all []string
		for _, n := range nodes {
			all = append(all, c.sql(n))
		}
		return "(" + strings.Join(all, operator) + ")"
	}
	switch n := n.(type) {
	case query.And:
		return list(n, " AND ")
	case query.Or:
		return list(n, " OR ")
	case query.Not:
		return "NOT (" + c.sql(n.Of) + ")"
	case query.Size:
		return "m.size " + operator(n.Larger) + " " + c.arg(n.Bytes)
	case query.Time:
		if n.Before {
			return "m.received < " + c.arg(n.Moment.On(c.now))
		}
		return "m.received >= " + c.arg(n.Moment.On(c.now))
	}
	return "false"
}

func operator(larger bool) string {
	if larger {
		return ">"
	}
	return "<"
}

// requires reports whether a node can only be true of messages that have a
// certain lexeme.
func requires(n query.Node) bool {
	switch n := n.(type) {
	case query.And:
		return slices.ContainsFunc(n, requires)
	case query.Or:
		return !slices.ContainsFunc(n, func(x query.Node) bool { return !requires(x) })
	case query.Not, query.Size, query.Time:
		return false
	}
	return true
}

// phrase is the tsquery text of words one behind the other.
func phrase(w query.Words) string {
	prefix := fieldPrefix(w.Field)
	all := make([]string, len(w.List))
	for i, word := range w.List {
		flags := ""
		if w.Prefix && i == len(w.List)-1 {
			flags = "*"
		}
		if w.Field == query.Body {
			flags += "D"
		}
		if all[i] = lexeme(prefix + word); flags != "" {
			all[i] += ":" + flags
		}
	}
	return "(" + strings.Join(all, " <-> ") + ")"
}

func fieldPrefix(f query.Field) string {
	return map[query.Field]string{query.Subject: subjectPrefix, query.From: fromPrefix, query.To: toPrefix, query.Filename: namePrefix}[f]
}

// lexeme quotes a lexeme for tsquery's input syntax.
func lexeme(s string) string { return "'" + strings.NewReplacer(`'`, `''`, `\`, `\\`).Replace(s) + "'" }

// largerLexemes are those of sizes above n bytes, and perhaps some below.
func largerLexemes(n int64) string {
	var all []string
	for size := n; size < 1<<40; size <<= 1 {
		all = append(all, lexeme(sizeLexeme(size)))
	}
	return "(" + strings.Join(all, " | ") + ")"
}
