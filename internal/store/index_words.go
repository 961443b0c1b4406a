package store

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// wordBudget bounds the tsvector of one message's text: PostgreSQL refuses
// more than 1 MiB ("Limitations" of text search), with room for the headers.
const wordBudget = 900_000

// maxWord is the longest word indexed, in bytes: longer ones are no words.
// (PostgreSQL itself leaves out what is longer than 2047 bytes.)
const maxWord = 255

// fold brings text into the form that is indexed and searched: lower case,
// compatibility forms and accents taken away, so that "Évora" is found as
// "evora". PostgreSQL's unaccent would need a superuser at installation, and
// its parser would take "<ana@example.test>" for a tag and leave it out.
func fold(s string) string {
	s = brackets.Replace(s)
	if isASCII(s) {
		return strings.ToLower(s)
	}
	s = strings.Map(func(r rune) rune {
		if r >= 0x300 && r <= 0x36F { // combining diacritical marks; other scripts keep theirs
			return -1
		}
		return unicode.ToLower(r)
	}, norm.NFKD.String(clean(s)))
	return norm.NFC.String(s)
}

var brackets = strings.NewReplacer("<", " ", ">", " ")

// clean makes text that PostgreSQL takes: valid UTF-8 without NUL.
func clean(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", " "), "\uFFFD")
}

func cleanAll(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = clean(s)
	}
	return out
}

// headerWords folds addresses and file names; their parts are words too.
func headerWords(parts ...string) string {
	s := fold(clean(strings.Join(parts, " ")))
	return limitWords(s+" "+strings.NewReplacer("@", " ", ".", " ", "_", " ", "-", " ").Replace(s), wordBudget/20)
}

// textWords folds a message's text and cuts it, between words, where its
// tsvector might become too large.
func textWords(text string) string { return limitWords(fold(clean(text)), wordBudget) }

// limitWords keeps the words of s whose lexemes are sure to fit into budget
// bytes of tsvector. PostgreSQL's parser may make several lexemes of one word
// (a host name, its parts): at worst twice the bytes and one for every two
// characters. A lexeme takes its bytes, up to one of padding, and 4 for its
// first position; a position of one seen before takes 2.
func limitWords(s string, budget int) string {
	seen := map[string]bool{}
	var b strings.Builder
	b.Grow(min(len(s), budget))
	for w := range strings.FieldsSeq(s) {
		if len(w) > maxWord {
			continue
		}
		lexemes := 1
		if strings.IndexFunc(w, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) >= 0 {
			lexemes += utf8.RuneCountInString(w)/2 + 1
		}
		cost := 2 * lexemes
		if !seen[w] {
			seen[w] = true
			cost = 5 * lexemes
			if cost += len(w); lexemes > 1 {
				cost += len(w)
			}
		}
		if budget -= cost; budget < 0 {
			break
		}
		b.WriteString(w)
		b.WriteByte(' ')
	}
	return b.String()
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
