package query

import (
	"math"
	"strconv"
	"strings"
	"time"

	"understudy/internal/address"
)

// field is how the value of a field is read.
type field struct {
	read    func(value) (Node, error)
	example string
}

const fieldList = "from, to, cc, subject, body, filename, id, has, after, before, on, direction, route, size, larger, smaller, mailbox"

var fields = map[string]field{
	"from":       {addressOrWords(From), "from:ana"},
	"to":         {addressOrWords(To), "to:ana"},
	"cc":         {addressOrWords(Cc), "cc:ana"},
	"subject":    {words(Subject), `subject:"factura marzo"`},
	"body":       {words(Body), "body:factura"},
	"filename":   {words(Filename), "filename:pdf"},
	"id":         {messageID, "id:abc@example.org"},
	"message-id": {messageID, "message-id:abc@example.org"},
	"has":        {has, "has:attachment"},
	"after":      {after, "after:2026-10-01"},
	"before":     {before, "before:2026-10-01"},
	"on":         {on, "on:2026-10-01"},
	"direction":  {direction, "direction:in"},
	"route":      {route, "route:portal"},
	"size":       {size, "size:>5M"},
	"larger":     {larger(true), "larger:5M"},
	"smaller":    {larger(false), "smaller:5M"},
	"mailbox":    {mailbox, "mailbox:ana@example.org"},
}

func words(f Field) func(value) (Node, error) {
	return func(v value) (Node, error) {
		w := Words{Field: f, Prefix: v.prefix}
		folded := Fold(v.text)
		for word := range wordsOf(folded, math.MaxInt) {
			if len(word) > MaxWord {
				return nil, fail(v.at, "this word is too long: words of more than %d bytes are not in the index", MaxWord)
			}
			w.List = append(w.List, word)
		}
		last := strings.TrimRight(folded, "*")
		switch {
		case len(w.List) == 0 && f == Any && !v.quoted:
			return nil, nil
		case len(w.List) == 0:
			return nil, fail(v.at, "there is no letter or digit to search for here")
		case v.prefix && !strings.HasSuffix(last, w.List[len(w.List)-1]):
			return nil, fail(v.at, "the * must stand right behind a letter or digit, as in fact*")
		case v.prefix && len([]rune(w.List[len(w.List)-1])) < 2 && !unspaced([]rune(w.List[len(w.List)-1])[0]):
			return nil, fail(v.at, "at least two letters must stand before a *, as in fa*")
		}
		return w, nil
	}
}

func addressOrWords(f Field) func(value) (Node, error) {
	return func(v value) (Node, error) {
		folded := strings.TrimSpace(Fold(v.text))
		if !v.prefix {
			for a := range Addresses(folded) {
				_, domain, _ := strings.Cut(a, "@")
				if a == strings.Trim(folded, "<>") && strings.Contains(domain, ".") { // else it is part of one
					return Address{Field: f, Text: a}, nil
				}
			}
		}
		return words(f)(v)
	}
}

func messageID(v value) (Node, error) {
	id := FoldID(v.text)
	if id == "" {
		return nil, fail(v.at, "id: wants a Message-ID, such as id:abc@example.org")
	}
	return MessageID(id), nil
}

// FoldID is the form in which Message-IDs are indexed and searched.
func FoldID(s string) string {
	s = strings.Trim(strings.TrimSpace(Fold(s)), "<>")
	if len(s) > MaxWord {
		s = strings.ToValidUTF8(s[:MaxWord], "")
	}
	return s
}

func has(v value) (Node, error) {
	switch strings.ToLower(v.text) {
	case "attachment", "attachments":
		return HasAttachment{}, nil
	}
	return nil, fail(v.at, "has: knows only has:attachment")
}

func direction(v value) (Node, error) {
	switch strings.ToLower(v.text) {
	case "in", "inbound":
		return Direction("inbound"), nil
	case "out", "outbound":
		return Direction("outbound"), nil
	case "internal":
		return Direction("internal"), nil
	}
	return nil, fail(v.at, "direction: is in, out or internal")
}

func route(v value) (Node, error) {
	switch name := strings.ToLower(v.text); name {
	case "primary", "portal", "internet":
		return Route(name), nil
	}
	return nil, fail(v.at, "route: is primary, portal or internet")
}

func mailbox(v value) (Node, error) {
	a, err := address.Parse(v.text)
	if err != nil || a.IsZero() {
		return nil, fail(v.at, "mailbox: wants a whole address, such as mailbox:ana@example.org; to find part of one, use from:, to: or cc:")
	}
	return Mailbox(a.String()), nil
}

func after(v value) (Node, error) {
	m, _, err := moment(v, "after")
	return Time{Moment: m}, err
}

func before(v value) (Node, error) {
	m, _, err := moment(v, "before")
	return Time{Before: true, Moment: m}, err
}

func on(v value) (Node, error) {
	m, day, err := moment(v, "on")
	if err != nil {
		return nil, err
	}
	if !day {
		return nil, fail(v.at, "on: wants a day, such as on:2026-10-01, on:today or on:yesterday")
	}
	next := m
	if m.At.IsZero() {
		next.Day++
	} else {
		next.At = m.At.AddDate(0, 0, 1)
	}
	return And{Time{Moment: m}, Time{Before: true, Moment: next}}, nil
}

var units = map[byte]time.Duration{'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour, 'm': 30 * 24 * time.Hour, 'y': 365 * 24 * time.Hour}

// moment reads a day, or a time ago; day says which.
func moment(v value, name string) (m Moment, day bool, err error) {
	text := strings.ToLower(strings.TrimSpace(v.text))
	switch text {
	case "today":
		return Moment{}, true, nil
	case "yesterday":
		return Moment{Day: -1}, true, nil
	}
	if unit := units[text[len(text)-1]]; unit != 0 {
		n, err := strconv.Atoi(text[:len(text)-1])
		if err == nil && n > 0 && n <= int(100*units['y']/unit) {
			return Moment{Ago: time.Duration(n) * unit}, false, nil
		}
	}
	at, perr := time.Parse(time.DateOnly, text)
	if perr != nil || at.Year() < 1900 {
		return m, false, fail(v.at, "%s: wants a day as YYYY-MM-DD (UTC), such as %s:2026-10-01, or a time ago, such as 12h, 7d, 4w, 3m or 1y", name, name)
	}
	return Moment{At: at}, true, nil
}

func size(v value) (Node, error) {
	text := strings.TrimSpace(v.text)
	if text[0] != '>' && text[0] != '<' {
		return nil, fail(v.at, "size: wants > or <, such as size:>5M or size:<200k")
	}
	return sized(v, text[1:], text[0] == '>')
}

func larger(more bool) func(value) (Node, error) {
	return func(v value) (Node, error) { return sized(v, strings.TrimSpace(v.text), more) }
}

func sized(v value, text string, more bool) (Node, error) {
	number := strings.TrimSuffix(strings.ToLower(text), "b")
	factor := int64(1)
	if n := len(number) - 1; n >= 0 {
		if i := strings.IndexByte("kmgt", number[n]); i >= 0 {
			factor = 1 << (10 * (i + 1))
			number = number[:n]
		}
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || math.IsNaN(f) || f < 0 || f*float64(factor) > 1<<50 {
		return nil, fail(v.at, "this is no size; write bytes, or such as 200k, 5M or 1G")
	}
	return Size{Larger: more, Bytes: int64(f * float64(factor))}, nil
}
