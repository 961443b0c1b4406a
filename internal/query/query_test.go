package query

import (
	"math/rand/v2"
	"unicode"

	"errors"
	"fmt"
	"golang.org/x/text/unicode/norm"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func w(f Field, list ...string) Words { return Words{Field: f, List: list} }

func TestParse(t *testing.T) {
	t.Parallel()
	oct := Moment{At: time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)}
	for in, want := range map[string]Node{
		"":                                      nil,
		"  \t ":                                 nil,
		"factura":                               w(Any, "factura"),
		"FACTURA Évora":                         And{w(Any, "factura"), w(Any, "evora")},
		`"factura marzo"`:                       w(Any, "factura", "marzo"),
		"fact*":                                 Words{List: []string{"fact"}, Prefix: true},
		`"factura mar"*`:                        Words{List: []string{"factura", "mar"}, Prefix: true},
		`"fact*"`:                               w(Any, "fact"),
		`fact\*`:                                w(Any, "fact"),
		"-newsletter":                           Not{w(Any, "newsletter")},
		"e-mail":                                w(Any, "e", "mail"),
		"a OR b c":                              Or{w(Any, "a"), And{w(Any, "b"), w(Any, "c")}},
		"(a OR b) -(c d)":                       And{Or{w(Any, "a"), w(Any, "b")}, Not{And{w(Any, "c"), w(Any, "d")}}},
		"a AND b":                               And{w(Any, "a"), w(Any, "b")},
		"a or b":                                And{w(Any, "a"), w(Any, "or"), w(Any, "b")},
		`"OR"`:                                  w(Any, "or"),
		"ORDER":                                 w(Any, "order"),
		"Müller & Söhne":                        And{w(Any, "muller"), w(Any, "sohne")},
		"from:ana":                              w(From, "ana"),
		"FROM:Ana@Example.test":                 Address{From, "ana@example.test"},
		"to:<ana@example.test>":                 Address{To, "ana@example.test"},
		"cc:example.test":                       w(Cc, "example", "test"),
		"cc:ana@example.test":                   Address{Cc, "ana@example.test"},
		"route:Portal":                          Route("portal"),
		"from:@example.test":                    w(From, "example", "test"),
		"ana@example.test":                      w(Any, "ana", "example", "test"),
		`subject:"a \"b\" c"`:                   w(Subject, "a", "b", "c"),
		"filename:*.pdf":                        w(Filename, "pdf"),
		"body:x":                                w(Body, "x"),
		"id:<A@b.test>":                         MessageID("a@b.test"),
		"has:attachment":                        HasAttachment{},
		"direction:in":                          Direction("inbound"),
		"after:2026-10-01":                      Time{Moment: oct},
		"before:7d":                             Time{Before: true, Moment: Moment{Ago: 7 * 24 * time.Hour}},
		"on:2026-10-01":                         And{Time{Moment: oct}, Time{Before: true, Moment: Moment{At: oct.At.AddDate(0, 0, 1)}}},
		"on:yesterday":                          And{Time{Moment: Moment{Day: -1}}, Time{Before: true, Moment: Moment{}}},
		"size:>5M":                              Size{Larger: true, Bytes: 5 << 20},
		"size:<1.5k":                            Size{Bytes: 1536},
		"larger:10MB":                           Size{Larger: true, Bytes: 10 << 20},
		"smaller:10":                            Size{Bytes: 10},
		"mailbox:Ana@Example.TEST":              Mailbox("ana@example.test"),
		"12:30":                                 w(Any, "12", "30"),
		"https://a.test/b":                      w(Any, "https", "a", "test", "b"),
		`\-x`:                                   w(Any, "x"),
		`re\:x`:                                 w(Any, "re", "x"),
		"日本語":                                   w(Any, "日", "本", "語"),
		"Привет":                                w(Any, "привет"),
		"from:ana\u3000\u00a0-b\u2003OR\u00a0c": Or{And{w(From, "ana"), Not{w(Any, "b")}}, w(Any, "c")},
		"\u3000\u00a0":                          nil,
		"a(b)c":                                 And{w(Any, "a"), w(Any, "b"), w(Any, "c")},
	} {
		got, err := Parse(in)
		if err != nil {
			t.Errorf("%q: %v", in, err)
			continue
		}
		if diff := cmp.Diff(want, got.Root); diff != "" {
			t.Errorf("%q: %s", in, diff)
		}
	}
}

// TestErrors: each points at the place, and says what would be right.
func TestErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   string
		at   int
		says string
	}{
		{`a "b`, 2, "not closed"},
		{`from:"b`, 5, "not closed"},
		{"a (b", 2, "not closed"},
		{"a)", 1, `no "("`},
		{"()", 0, "nothing in these"},
		{"a OR", 2, "both sides"},
		{"OR a", 0, "both sides"},
		{"a OR OR b", 5, "both sides"},
		{"x form:ana", 2, "no field form:"},
		{"from: ana", 5, "right behind the colon"},
		{"subject:!", 8, "no letter or digit"},
		{" &", 1, "no letter or digit"},
		{"- & AND !", 0, "no letter or digit"},
		{"a " + strings.Repeat("b", 300), 2, "too long"},
		{`subject:"a ` + strings.Repeat("é", 300) + `"`, 8, "too long"},
		{"before:0001-01-01", 7, "YYYY-MM-DD"},
		{"after:1899-12-31", 6, "YYYY-MM-DD"},
		{"has:teeth", 4, "has:attachment"},
		{"after:yesteryear", 6, "YYYY-MM-DD"},
		{"a after:2026-02-30", 8, "YYYY-MM-DD"},
		{"after:0d", 6, "YYYY-MM-DD"},
		{"on:7d", 3, "wants a day"},
		{"size:5M", 5, "size:>5M"},
		{"size:>big", 5, "no size"},
		{"larger:-1", 7, "no size"},
		{"larger:nan", 7, "no size"},
		{"direction:up", 10, "in, out or internal"},
		{"mailbox:ana", 8, "whole address"},
		{"f*", 0, "two letters"},
		{"ana.*", 0, "right behind"},
		{strings.Repeat("(", 40), maxDepth, "too deep"},
		{strings.Repeat("a ", 200), 2 * maxTerms, "too many"},
		{strings.Repeat("a", 5000), MaxLength, "too long"},
		{"a \xff", 2, "UTF-8"},
	} {
		_, err := Parse(c.in)
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%q: %v", c.in, err)
			continue
		}
		if e.Offset != c.at || !strings.Contains(e.Text, c.says) {
			t.Errorf("%.40q: at %d %q, want at %d %q", c.in, e.Offset, e.Text, c.at, c.says)
		}
	}
}

func TestCaret(t *testing.T) {
	t.Parallel()
	const text = "Évora\tsize:big"
	_, err := Parse(text)
	var e *Error
	if !errors.As(err, &e) {
		t.Fatal(err)
	}
	if got, want := e.Caret(text), "Évora size:big\n           ^ "+e.Text; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestQuote(t *testing.T) {
	t.Parallel()
	for _, s := range []string{`a"b`, `a\`, `a\"b OR -c`, "from:x", "(a"} {
		q, err := Parse("subject:" + Quote(s))
		if err != nil {
			t.Errorf("%q: %v", s, err)
			continue
		}
		want := w(Subject, slices.Collect(WordsOf(Fold(s)))...)
		if diff := cmp.Diff(Node(want), q.Root); diff != "" {
			t.Errorf("%q: %s", s, diff)
		}
	}
}

func TestMoment(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 1, 2, 3, 0, time.FixedZone("", 7200)) // the day before in UTC
	for in, want := range map[string]string{"today": "2026-02-28T00:00:00Z", "yesterday": "2026-02-27T00:00:00Z", "1d": "2026-02-27T23:02:03Z",
		"2w": "2026-02-14T23:02:03Z", "2020-01-01": "2020-01-01T00:00:00Z"} {
		q, err := Parse("after:" + in)
		if err != nil {
			t.Fatal(err)
		}
		if got := q.Root.(Time).Moment.On(now).Format(time.RFC3339); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestFold(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"Évora": "evora", "E\u0301vora": "evora", "ＦＵＬＬ": "full", "Привет": "привет", "한글": "한글", "हिन्दी": "हिन्दी", "İ": "i", "ABC": "abc",
		"ΟΔΟΣ": "οδοσ", "οδός": "οδοσ", "ŁÓDŹ": "lodz", "Søren Đorđe": "soren dorde", "Iğdır": "igdir", "STRASSE": "strasse", "Straße": "strasse", "Ærø, Œuvre": "aero, oeuvre", "Rech\u00adnung": "rechnung", "☎\uFE0FTel": "☎tel", "ǿ": "o", "\xff": "\uFFFD", "a\x00b": "a b"} {
		if got := Fold(in); got != want {
			t.Errorf("Fold(%q) = %q, want %q", in, got, want)
		}
	}
}

// TestFoldInPieces: text is folded piece by piece, and as if it were not.
func TestFoldInPieces(t *testing.T) {
	t.Parallel()
	whole := func(s string) string {
		return norm.NFC.String(letters.Replace(strings.Map(func(r rune) rune {
			if r >= 0x300 && r <= 0x36F || isUnseen(r) {
				return -1
			}
			return unicode.ToLower(r)
		}, norm.NFKD.String(Clean(s)))))
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 50_000 {
		var b strings.Builder
		for range 1 + rng.IntN(8) {
			switch rng.IntN(6) {
			case 0, 1:
				b.WriteByte(byte(rng.IntN(128)))
			case 2:
				b.WriteRune(rune(0x80 + rng.IntN(0x300)))
			case 3:
				b.WriteRune(rune(0x300 + rng.IntN(0x70)))
			case 4:
				b.WriteRune(rune(rng.IntN(0x10FFFF)))
			default:
				b.WriteRune([]rune("\u1100\u1161\u3099\u212b\ufb01\u0338か한\u00ad\ufe0f")[rng.IntN(10)])
			}
		}
		if s := b.String(); Fold(s) != whole(s) {
			t.Fatalf("Fold(%+q) = %+q, want %+q", s, Fold(s), whole(s))
		}
	}
}

func TestWordsOf(t *testing.T) {
	t.Parallel()
	for in, want := range map[string][]string{"a b": {"a", "b"}, "don't": {"don", "t"}, "x_1.pdf": {"x", "1", "pdf"}, "हिन्दी 한글": {"हिन्दी", "한글"},
		"サーバー2号": {"サ", "ー", "バ", "ー", "2", "号"}, "1\u20e3schritt": {"1", "schritt"},
		"ab日本c": {"ab", "日", "本", "c"}, "": nil, strings.Repeat("x", 300) + " y": {"y"}, "a" + strings.Repeat("\u00a0", 2) + "b": {"a", "b"}} {
		if got := slices.Collect(WordsOf(in)); !slices.Equal(got, want) {
			t.Errorf("%.20q: %q, want %q", in, got, want)
		}
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	got := fmt.Sprint(slices.Collect(Addresses(`"ana, x" <ana@example.test>, b@c.test;d @e f@`)))
	if want := "[ana@example.test b@c.test]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{`from:ana subject:"factura marzo" has:attachment after:2026-10-01 -newsletter`, `(a OR "b c"*) size:>5M on:today`, `\`, `-"x`, "OR (", "after:7d id:<x@y>", "日本 \x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		q, err := Parse(in)
		var e *Error
		switch {
		case err == nil && q == nil:
			t.Error("neither query nor error")
		case err != nil && (!errors.As(err, &e) || e.Offset < 0 || e.Offset > max(len(in), 0) || e.Text == ""):
			t.Errorf("error %#v", err)
		case err != nil:
			if lines := strings.Count(e.Caret(in), "\n"); lines != 1 {
				t.Errorf("%d line ends in %q", lines, e.Caret(in))
			}
		}
		for word := range WordsOf(Fold(in)) {
			if word == "" || len(word) > MaxWord || strings.ContainsAny(word, ":@ \x00") {
				t.Errorf("word %q", word)
			}
		}
	})
}
