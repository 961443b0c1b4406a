package mime

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestDecodeHeaders(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, in, subject, from, to string }{
		{"plain", "Subject: hello\r\nFrom: a@b.test\r\nTo: c@d.test\r\n\r\nx", "hello", "a@b.test", "c@d.test"},
		{"LF only", "Subject: hello\nFrom: a@b.test\n\nSubject: body\n", "hello", "a@b.test", ""},
		{"CR only", "Subject: hello\rFrom: a@b.test\r\rSubject: body\r", "hello", "a@b.test", ""},
		{"folded", "Subject: one\r\n two\r\n\tthree\r\n\r\n", "one two three", "", ""},
		{"encoded", "Subject: =?UTF-8?B?w4l2b3Jh?= =?iso-8859-1?Q?_caf=E9?=\r\nFrom: =?utf-8?q?Jos=C3=A9?= <j@b.test>\r\n\r\n", "Évora café", "José <j@b.test>", ""},
		{"Japanese", "Subject: =?ISO-2022-JP?B?GyRCRnxLXDhsGyhC?=\r\n\r\n", "日本語", "", ""},
		{"Russian", "Subject: =?koi8-r?B?8NLJ18XU?=\r\n\r\n", "Привет", "", ""},
		{"raw UTF-8", "Subject: Évora\r\n\r\n", "Évora", "", ""},
		{"raw Latin-1", "Subject: \xc9vora\r\n\r\n", "Évora", "", ""},
		{"raw in the charset of the message", "Content-Type: text/plain; charset=koi8-r\r\nSubject: \xf0\xd2\xc9\xd7\xc5\xd4\r\n\r\n", "Привет", "", ""},
		{"raw ISO 2022", "Content-Type: text/plain; charset=iso-2022-jp\r\nSubject: \x1b$BF|K\\8l\x1b(B\r\n\r\n", "日本語", "", ""},
		{"8-bit letters within encoded words", "Subject: =?iso-8859-1?Q?Fr\xf6sche?= =?utf-8?q?_é?=\r\n\r\n", "Frösche é", "", ""},
		{"unknown charset", "Subject: =?x-none?Q?abc?=\r\n\r\n", "=?x-none?Q?abc?=", "", ""},
		{"first subject counts", "Subject: one\r\nSubject: two\r\n\r\n", "one", "", ""},
		{"To more than once", "To: a@b.test\r\nCc: c@d.test\r\nTo: e@f.test\r\nBcc: no@no.test\r\n\r\n", "", "", "a@b.test, e@f.test"},
		{"space before the colon", "Subject : x\r\n\r\n", "x", "", ""},
		{"no header at all", "just text", "", "", ""},
		{"NUL", "Subject: a\x00b\r\n\r\n", "a b", "", ""},
		{"empty", "", "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := headers([]byte(c.in))
			if d.Subject != c.subject || d.From != c.from || d.To != c.to {
				t.Errorf("subject %q, from %q, to %q", d.Subject, d.From, d.To)
			}
		})
	}
}

func TestDecodeCc(t *testing.T) {
	t.Parallel()
	h := headers([]byte("To: a@b.test\r\nCc: =?utf-8?q?Jos=C3=A9?= <c@d.test>\r\nCC: e@f.test\r\nBcc: no@no.test\r\n\r\n"))
	if h.To != "a@b.test" || h.Cc != "José <c@d.test>, e@f.test" {
		t.Errorf("to %q, cc %q", h.To, h.Cc)
	}
}

const multipart = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=X\r\n\r\npreamble\r\n--X\r\n%s\r\n--X\r\nContent-Type: application/pdf; name=a.pdf\r\n" +
	"Content-Disposition: attachment; filename=\"=?utf-8?Q?relat=C3=B3rio.pdf?=\"\r\nContent-Transfer-Encoding: base64\r\n\r\n%s\r\n--X--\r\n"

func TestDecodeText(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, in string
		text     []string // all in this order
		not      string
		names    []string
	}{
		{"plain", "Subject: x\r\n\r\nhello world", []string{"hello world"}, "", nil},
		{"no MIME, UTF-8", "Subject: x\r\n\r\nÉvora", []string{"Évora"}, "", nil},
		{"no MIME, Latin-1", "Subject: x\r\n\r\n\xc9vora", []string{"Évora"}, "", nil},
		{"stated charset", "Content-Type: text/plain; charset=iso-8859-15\r\n\r\n10 \xa4", []string{"10 €"}, "", nil},
		{"windows-1251", "Content-Type: text/plain; charset=windows-1251\r\n\r\n\xcf\xf0\xe8\xe2\xe5\xf2", []string{"Привет"}, "", nil},
		{"ISO 2022", "Content-Type: text/plain; charset=iso-2022-jp\r\n\r\n\x1b$BF|K\\8l\x1b(B", []string{"日本語"}, "", nil},
		{"ISO 2022 that is not stated", "Subject: x\r\n\r\n\x1b$BF|K\\8l\x1b(B", []string{"日本語"}, "", nil},
		{"ISO 2022 that is UTF-8", "Content-Type: text/plain; charset=iso-2022-jp\r\n\r\n日本語", []string{"日本語"}, "", nil},
		{"ISO 2022 that is EUC", "Content-Type: text/plain; charset=ISO-2022-JP\r\n\r\n" + strings.Repeat("\xc6\xfc\xcb\xdc\xb8\xec\xa4\xce\xa5\xe1\xa1\xbc\xa5\xeb\xa4\xf2\xc1\xf7\xa4\xea\xa4\xde\xa4\xb7\xa4\xbf\xa1\xa3", 8), []string{"日本語のメールを送りました。"}, "", nil},
		{"quoted-printable", "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\ncaf=C3=A9 li=\r\nne", []string{"café line"}, "", nil},
		{"base64", "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\naGVsbG8gd29ybGQ=", []string{"hello world"}, "", nil},
		{"attachment", fmt.Sprintf(multipart, "Content-Type: text/plain\r\n\r\nsee file", "JVBERi0="), []string{"see file"}, "JVBER", []string{"relatório.pdf"}},
		{"html", "Content-Type: text/html; charset=utf-8\r\n\r\n<html><style>no</style><script>no</script><p>One<b>Two</b></p><td>3</td><td>4 &eacute;", []string{"OneTwo", "3", "4 é"}, "no", nil},
		{"html within words", "Content-Type: text/html\r\n\r\n<p>in<ins>ser</ins>ted of<o:p>fi</o:p>ce<dd>5", []string{"inserted office 5"}, "", nil},
		{"alternatives", "Content-Type: multipart/alternative; boundary=X\r\n\r\n--X\r\nContent-Type: text/plain\r\n\r\nOne two, three.\r\n--X\r\nContent-Type: text/html\r\n\r\n<p>one <b>Two</b>\r\n--X--\r\n", []string{"One two, three"}, "one", nil},
		{"alternative that says more", "Content-Type: multipart/alternative; boundary=X\r\n\r\n--X\r\nContent-Type: text/plain\r\n\r\nsee the page\r\n--X\r\nContent-Type: text/html\r\n\r\n<p>see fancy\r\n--X--\r\n", []string{"see the page", "see fancy"}, "", nil},
		{"empty alternative", "Content-Type: multipart/alternative; boundary=X\r\n\r\n--X\r\nContent-Type: text/plain\r\n\r\n \r\n--X\r\nContent-Type: text/html\r\n\r\n<p>fancy\r\n--X--\r\n", []string{"fancy"}, "", nil},
		{"not closed", "Content-Type: multipart/mixed; boundary=X\r\n\r\n--X\r\n\r\nfirst\r\n--X\r\n\r\nsecond", []string{"first", "second"}, "", nil},
		{"no boundary", "Content-Type: multipart/mixed\r\n\r\ntext all the same", []string{"text all the same"}, "", nil},
		{"message within", "Content-Type: multipart/mixed; boundary=X\r\n\r\n--X\r\n\r\nouter\r\n--X\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner subject\r\n\r\ninner text\r\n--X--\r\n",
			[]string{"outer", "inner subject", "inner text"}, "", []string{"message/rfc822"}},
		{"only an attachment", "Content-Type: application/zip; name=z.zip\r\n\r\nPK", nil, "PK", []string{"z.zip"}},
		{"RFC 2231 name", fmt.Sprintf(strings.Replace(multipart, `filename="=?utf-8?Q?relat=C3=B3rio.pdf?="`, `filename*=utf-8''%%C3%%A9t%%C3%%A9.pdf`, 1), "\r\nx", "AA=="), []string{"x"}, "", []string{"été.pdf"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d, err := NewDecoder().Decode(strings.NewReader(c.in))
			if err != nil {
				t.Error(err)
			}
			rest := d.Text
			for _, want := range c.text {
				var ok bool
				if _, rest, ok = strings.Cut(rest, want); !ok {
					t.Errorf("text %q lacks %q", d.Text, want)
				}
			}
			if c.not != "" && strings.Contains(d.Text, c.not) {
				t.Errorf("text %q has %q", d.Text, c.not)
			}
			if diff := cmp.Diff(c.names, d.Attachments); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestNoMessageWithin: what is attached as a message and is none is searched
// as it stands.
func TestNoMessageWithin(t *testing.T) {
	t.Parallel()
	in := "Content-Type: multipart/mixed; boundary=X\r\n\r\n--X\r\n\r\nouter\r\n--X\r\nContent-Type: message/rfc822\r\n\r\n begins with a blank\r\n\r\ninner text\r\n--X--\r\n"
	d, err := NewDecoder().Decode(strings.NewReader(in))
	if err == nil {
		t.Error("no error of what cannot be read")
	}
	for _, want := range []string{"outer", "begins with a blank", "inner text"} {
		if !strings.Contains(d.Text, want) {
			t.Errorf("text %q lacks %q", d.Text, want)
		}
	}
}

// TestHostile: whatever comes, decoding ends soon with little memory.
func TestHostile(t *testing.T) {
	t.Parallel()
	nested := func(depth int) string {
		var b strings.Builder
		for i := range depth {
			fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
		}
		return b.String()
	}
	for name, in := range map[string]string{
		"deep":              nested(100_000),
		"deep, on one line": strings.ReplaceAll(nested(100_000), "\r\n", "\r"),
		"many parts":        "Content-Type: multipart/mixed; boundary=X\r\n\r\n" + strings.Repeat("--X\r\n\r\nx\r\n", 500_000),
		"long line":         "Subject: " + strings.Repeat("a", 20<<20),
		"many headers":      strings.Repeat("X-A: b\r\n", 500_000),
		"many recipients":   "To: " + strings.Repeat("a@b.test,\r\n ", 300_000) + "\r\n\r\n",
		"deep html":         "Content-Type: text/html\r\n\r\n" + strings.Repeat("<div>", 500_000) + "x",
		"encoded words":     "Subject: " + strings.Repeat("=?utf-8?Q?=41?= ", 100_000) + "\r\n\r\n",
		"quotes":            "From: " + strings.Repeat("\"", 100_000) + "\r\nContent-Type: " + strings.Repeat("a/b;\"", 50_000) + "\r\n\r\n",
		"messages within":   strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 100_000),
		"zeros":             string(make([]byte, 8<<20)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begin := time.Now()
			d, _ := NewDecoder().Decode(strings.NewReader(in)) //nolint:errcheck // an error is a right answer
			if took := time.Since(begin); took > decodeTimeout+2*time.Minute {
				t.Errorf("took %v", took)
			}
			if len(d.Text) > maxText+10 || len(d.Subject) > maxSubject || len(d.To) > maxAddresses || len(d.Attachments) > maxNames {
				t.Errorf("too much: text %d, subject %d, to %d, %d names", len(d.Text), len(d.Subject), len(d.To), len(d.Attachments))
			}
		})
	}
}

// TestLargeMessage: of 60 MB in attachments little is kept, but all names.
func TestLargeMessage(t *testing.T) {
	body := fmt.Sprintf(multipart, "\r\nsee files", strings.Repeat(strings.Repeat("QUFB", 19)+"\r\n", 500_000)) // 39 MB
	body = strings.Replace(body, "--X--\r\n", "--X\r\nContent-Disposition: attachment; filename=last.bin\r\n\r\n"+strings.Repeat("zzzzzzzz\r\n", 2_000_000)+"--X--\r\n", 1)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	patient := NewDecoder()
	patient.timeout = 10 * time.Minute // for a busy machine
	d, err := patient.Decode(strings.NewReader(body))
	runtime.ReadMemStats(&after)
	if err != nil || !strings.Contains(d.Text, "see files") {
		t.Errorf("%v, text %.40q", err, d.Text)
	}
	if diff := cmp.Diff([]string{"relatório.pdf", "last.bin"}, d.Attachments); diff != "" {
		t.Error(diff)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 120<<20 {
		t.Errorf("%d MB allocated in all", used>>20)
	}
}

// TestGivenUpParserEnds: one that takes too long does not go on for ever.
func TestGivenUpParserEnds(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for i := range 30 { // unclosed: 2^30 steps, if squeeze did not see to it
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
	}
	begin := time.Now()
	if _, _, err := parts([]byte(b.String()), begin.Add(200*time.Millisecond)); !errors.Is(err, errDeadline) {
		t.Errorf("got %v, want %v", err, errDeadline)
	}
	if took := time.Since(begin); took > time.Minute {
		t.Errorf("took %v", took)
	}
}

// TestBusyParser: messages after hostile ones are indexed by their headers.
func TestBusyParser(t *testing.T) {
	t.Parallel()
	d := NewDecoder()
	for range decoders {
		d.slots <- struct{}{}
	}
	got, err := d.Decode(strings.NewReader("Subject: x\r\n\r\ny"))
	if err == nil || got.Subject != "x" || got.Text != "" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestUnreadableBody(t *testing.T) {
	t.Parallel()
	broken := errors.New("bad frame")
	got, err := NewDecoder().Decode(io.MultiReader(strings.NewReader("Subject: x\r\n\r\nfirst words"), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) || got.Subject != "x" || !strings.Contains(got.Text, "first words") {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzDecode(f *testing.F) {
	own, err := filepath.Glob("testdata/*.eml")
	if err != nil || len(own) == 0 {
		f.Fatal("no seeds", err)
	}
	for _, name := range own {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		d, _ := NewDecoder().Decode(bytes.NewReader(in)) //nolint:errcheck
		for _, s := range append(d.Attachments, d.Subject, d.From, d.To, d.MessageID, d.Text) {
			if !utf8.ValidString(s) {
				t.Errorf("not UTF-8: %q", s)
			}
		}
	})
}
