package query

import (
	"iter"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// MaxWord is the longest word, in bytes: longer ones are no words, neither in
// the index nor in a query.
const MaxWord = 255

// Fold brings text into the form that is indexed and searched: lower case,
// compatibility forms and accents taken away, so that "Évora" is found as
// "evora". What is not UTF-8, and NUL, becomes what PostgreSQL takes.
func Fold(s string) string {
	if isASCII(s) {
		return lowerASCII(strings.ReplaceAll(s, "\x00", " "))
	}
	s = Clean(s)
	var b strings.Builder
	b.Grow(len(s))
	for len(s) > 0 {
		if n := runOf(s, true); n > 0 {
			b.WriteString(lowerASCII(s[:n]))
			s = s[n:]
			continue
		}
		n := runOf(s, false)
		if c, size := utf8.DecodeRuneInString(s); size == n && c < foldable {
			b.WriteString(foldedLetters[c])
		} else {
			b.WriteString(foldRun(s[:n]))
		}
		s = s[n:]
	}
	return b.String()
}

// lowerASCII is strings.ToLower of ASCII.
func lowerASCII(s string) string {
	for i := range len(s) {
		if c := s[i]; c >= 'A' && c <= 'Z' {
			out := []byte(s)
			for ; i < len(out); i++ {
				if c := out[i]; c >= 'A' && c <= 'Z' {
					out[i] = c + ('a' - 'A')
				}
			}
			return string(out)
		}
	}
	return s
}

// runOf is how many bytes at the begin of s are ASCII, or not.
func runOf(s string, ascii bool) int {
	for i := range len(s) {
		if s[i] < utf8.RuneSelf != ascii {
			return i
		}
	}
	return len(s)
}

// foldRun folds text without ASCII. What is in front of it or behind makes no
// difference: no ASCII letter joins anything but the accents that go.
func foldRun(s string) string {
	s = strings.Map(func(r rune) rune {
		if r >= 0x300 && r <= 0x36F || isUnseen(r) { // combining diacritical marks; other scripts keep theirs
			return -1
		}
		return unicode.ToLower(r)
	}, norm.NFKD.String(s))
	return norm.NFC.String(letters.Replace(s))
}

// isUnseen reports whether r stands within words without being seen: where a
// word may be hyphenated, where a line must not end, that letters join, and
// whether the sign before it is a picture.
func isUnseen(r rune) bool {
	return r == 0xAD || r == 0x200D || r == 0x2060 || r == 0xFEFF || r >= 0xFE00 && r <= 0xFE0F
}

// letters are those that Unicode does not take apart, and the sigma that ends a
// word: lower case of an upper-case word has none.
var letters = strings.NewReplacer("ł", "l", "ø", "o", "đ", "d", "ħ", "h", "ŧ", "t", "ı", "i", "ß", "ss", "æ", "ae", "œ", "oe", "ς", "σ")

// foldedLetters are the characters of Latin text as foldRun makes them.
const foldable = 0x250

var foldedLetters = func() (table [foldable]string) {
	for r := rune(utf8.RuneSelf); r < foldable; r++ {
		table[r] = foldRun(string(r))
	}
	return table
}()

// Clean makes text that PostgreSQL takes: valid UTF-8 without NUL.
func Clean(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", " "), "\uFFFD")
}

// WordsOf yields the words of folded text: runs of letters and digits, unless
// they are longer than MaxWord. Scripts that are written without spaces give
// one word for each character, and are found as phrases.
func WordsOf(folded string) iter.Seq[string] { return wordsOf(folded, MaxWord) }

func wordsOf(folded string, longest int) iter.Seq[string] {
	return func(yield func(string) bool) {
		start := -1
		for i := 0; i < len(folded); {
			if asciiWord[folded[i]] {
				if start < 0 {
					start = i
				}
				for i++; i < len(folded) && asciiWord[folded[i]]; i++ {
				}
				continue
			}
			c, size, single := rune(folded[i]), 1, false
			if c >= utf8.RuneSelf {
				c, size = utf8.DecodeRuneInString(folded[i:])
				single = c >= 0x0E00 && unspaced(c)
				if inWord(c) && !single {
					if start < 0 {
						start = i
					}
					i += size
					continue
				}
			}
			if start >= 0 && i-start <= longest && !yield(folded[start:i]) {
				return
			}
			start = -1
			if single && !yield(folded[i:i+size]) {
				return
			}
			i += size
		}
		if start >= 0 && len(folded)-start <= longest {
			yield(folded[start:])
		}
	}
}

// asciiWord are the ASCII letters and digits.
var asciiWord = func() (table [256]bool) {
	for _, c := range "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" {
		table[c] = true
	}
	return table
}()

// inWord is asciiWord of other characters. Marks are of the letter before, but
// for those that draw a key or a circle around it.
func inWord(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r) && !unicode.Is(unicode.Me, r)
}

// unspaced reports whether r is of a script written without spaces, or the mark
// of long vowels, which is of two of them.
func unspaced(r rune) bool {
	return r == 'ー' || unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar)
}

// Addresses yields the e-mail addresses in folded text such as a From field:
// what has an "@" between blanks, brackets, quotes, commas and semicolons.
func Addresses(folded string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for part := range strings.FieldsFuncSeq(folded, func(r rune) bool { return strings.ContainsRune(" \t\r\n<>()[],;:\"'", r) }) {
			if at := strings.LastIndexByte(part, '@'); at > 0 && at < len(part)-1 && len(part) <= MaxWord && !yield(part) {
				return
			}
		}
	}
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
