package mime

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// patientOpener has time on a busy machine, too.
func patientOpener() *Opener {
	o := NewOpener()
	o.timeout = 10 * time.Minute
	return o
}

func opened(t *testing.T, in string) *Message {
	t.Helper()
	m, err := patientOpener().Open(t.Context(), strings.NewReader(in), int64(len(in)))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

const alternatives = "From: =?utf-8?q?Jos=C3=A9?= <j@b.test>\r\nTo: a@b.test\r\nBcc: s@b.test\r\nDate: Mon, 2 Mar 2026 10:00:00 +0000\r\nSubject: x\r\nContent-Type: multipart/mixed; boundary=M\r\n\r\n" +
	"--M\r\nContent-Type: multipart/alternative; boundary=A\r\n\r\n--A\r\nContent-Type: text/plain\r\n\r\nplain\r\n" +
	"--A\r\nContent-Type: multipart/related; boundary=R\r\n\r\n--R\r\nContent-Type: text/html\r\n\r\n<p>fancy</p>\r\n--R\r\nContent-Type: image/gif\r\nContent-ID: <p@x>\r\n\r\nGIF\r\n--R--\r\n--A--\r\n" +
	"--M\r\nContent-Type: text/plain\r\n\r\n<footer>\r\n--M\r\nContent-Type: text/csv; name=a.csv\r\n\r\n1,2\r\n--M\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\ninner text\r\n--M--\r\n"

func TestOpen(t *testing.T) {
	t.Parallel()
	m := opened(t, alternatives)
	if m.From != "José <j@b.test>" || m.Bcc != "s@b.test" || m.Date != "Mon, 2 Mar 2026 10:00:00 +0000" || m.Partial {
		t.Errorf("letterhead %+v", m)
	}
	if m.Text != "plain\n<footer>\n" || m.HTML != "<p>fancy</p>\n<pre>&lt;footer&gt;</pre>\n" {
		t.Errorf("text %q, HTML %q", m.Text, m.HTML)
	}
	var parts []string
	for _, p := range m.Parts {
		parts = append(parts, fmt.Sprintf("%d %s %s %s %d", p.Number, p.Name, p.Type, p.ContentID, p.Size))
	}
	if diff := cmp.Diff([]string{"0  image/gif p@x 3", "1 a.csv text/csv  3", "2  message/rfc822  28"}, parts); diff != "" {
		t.Error(diff)
	}
}

func TestOpenForms(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, in, text, html string }{
		{"plain", "Subject: x\r\n\r\nhello\r\n", "hello\n\n", ""},
		{"only HTML", "Content-Type: text/html; charset=iso-8859-1\r\n\r\n<p>caf\xe9</p>", "café\n\n", "<p>café</p>\n"},
		{"guessed charset", "Subject: x\r\n\r\n\xc9vora", "Évora\n", ""},
		{"empty plain alternative", "Content-Type: multipart/alternative; boundary=X\r\n\r\n--X\r\nContent-Type: text/plain\r\n\r\n \r\n--X\r\nContent-Type: text/html\r\n\r\n<p>fancy\r\n--X--\r\n", " \nfancy\n\n", "<p>fancy\n"},
		{"empty", "", "", ""},
	} {
		if m := opened(t, c.in); m.Text != c.text || m.HTML != c.html {
			t.Errorf("%s: text %q, HTML %q", c.name, m.Text, m.HTML)
		}
	}
}

func TestPartIsExact(t *testing.T) {
	t.Parallel()
	content := strings.Repeat("line of a file\r\n", 3_000_000/16)
	in := "Content-Type: multipart/mixed; boundary=X\r\n\r\n--X\r\n\r\ntext\r\n--X\r\nContent-Disposition: attachment; filename=a.txt\r\n\r\n" + content + "\r\n--X--\r\n"
	o := patientOpener()
	p, err := o.Part(t.Context(), strings.NewReader(in), int64(len(in)), 0)
	if err != nil {
		t.Fatal(err)
	}
	if string(p.Content) != content || p.Name != "a.txt" {
		t.Errorf("part %s of %d bytes, want %d", p.Name, len(p.Content), len(content))
	}
	if _, err := o.Part(t.Context(), strings.NewReader(in), int64(len(in)), 1); !errors.Is(err, ErrNoPart) {
		t.Errorf("part 1: %v", err)
	}
	// What squeeze has to change is not passed off as the file.
	odd := strings.Replace(in, "line of a file", strings.Repeat("boundary=y\r\n", 20), 1)
	if _, err := o.Part(t.Context(), strings.NewReader(odd), int64(len(odd)), 0); !errors.Is(err, ErrWhole) {
		t.Errorf("an altered part: %v", err)
	}
	if _, err := o.Part(t.Context(), strings.NewReader(""), 1<<40, 0); !errors.Is(err, ErrWhole) {
		t.Errorf("a huge message: %v", err)
	}
}

func TestOpenLarge(t *testing.T) {
	t.Parallel()
	in := strings.Replace(alternatives, "1,2\r\n", strings.Repeat(strings.Repeat("x", 70)+"\r\n", 40<<20/72), 1)
	m, err := patientOpener().Open(t.Context(), strings.NewReader(in), int64(len(in)))
	if err != nil || !m.Partial || len(m.Parts) != 3 || m.Parts[1].Size != -1 || !strings.HasPrefix(m.Text, "plain") {
		t.Errorf("%v, partial %v, %d parts, text %.30q", err, m.Partial, len(m.Parts), m.Text)
	}
}

// TestOpenMemory: text that grows when it is escaped costs no more than other
// text: what is not shown is cut off first.
func TestOpenMemory(t *testing.T) {
	in := "Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("\"", 70)+"\r\n", 30<<20/72)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	m, err := patientOpener().Open(t.Context(), strings.NewReader(in), int64(len(in)))
	runtime.ReadMemStats(&after)
	if err != nil || !m.Partial || len(m.Text) < maxBody*9/10 || len(m.Text) > maxBody+10 || m.HTML != "" {
		t.Errorf("%v, partial %v, %d bytes of text, %d of HTML", err, m.Partial, len(m.Text), len(m.HTML))
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 500<<20 {
		t.Errorf("%d MB allocated in all", used>>20)
	}
}

// TestOpenForeignCut: text of another charset, which has no begin of a character
// of UTF-8 anywhere, is cut like other text.
func TestOpenForeignCut(t *testing.T) {
	t.Parallel()
	in := "Content-Type: text/plain; charset=x-none\r\nContent-Transfer-Encoding: base64\r\n\r\n" + strings.Repeat(strings.Repeat("pKSk", 18)+"\r\n", 3<<20/54)
	if m := opened(t, in); !m.Partial || len(m.Text) < maxBody*9/10 {
		t.Errorf("partial %v, %d bytes of text", m.Partial, len(m.Text))
	}
}

// TestOpenBoundary: mail that speaks of boundaries is shown and indexed as it
// is, and its files are whole.
func TestOpenBoundary(t *testing.T) {
	t.Parallel()
	said := strings.Repeat("The boundary of the field = its fence.\r\nSo says boundary\r\n", 40)
	in := "Content-Type: multipart/mixed;\r\n boundary=X\r\n\r\n--X\r\n\r\n" + said + "--X\r\nContent-Disposition: attachment; filename=a.txt\r\n\r\n" + said + "\r\n--X--\r\n"
	if m := opened(t, in); m.Partial || strings.Contains(m.Text, "xoundary") || strings.Count(m.Text, "boundary") != 80 {
		t.Errorf("partial %v, text %.200q", m.Partial, m.Text)
	}
	if d, err := NewDecoder().Decode(strings.NewReader(in)); err != nil || strings.Contains(d.Text, "xoundary") {
		t.Errorf("indexed %.200q, %v", d.Text, err)
	}
	if p, err := patientOpener().Part(t.Context(), strings.NewReader(in), int64(len(in)), 0); err != nil || string(p.Content) != said {
		t.Errorf("the file: %v", err)
	}
}

// TestManyBoundaries: however a boundary may be defined, the parser sees only
// so many.
func TestManyBoundaries(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"boundary=b%d", "Boundary = b%d", "boundary*=utf-8''b%d", "boundary*0*=b%d", "boundary\r\n =b%d", "boundary \r\n\t =b%d", "=?utf-8?Q?boundary=3Db%d?=", "charset=x;\r\n\tboundary=\"b%d\""} {
		var in strings.Builder
		for n := range 40 {
			fmt.Fprintf(&in, "Content-Type: multipart/mixed; "+how+"\r\n\r\n--b%d\r\n", n, n)
		}
		data, changed, err := squeeze(strings.NewReader(in.String()), bufio.NewReader(nil), forIndex)
		if n := bytes.Count(asciiLower(nil, data), boundary); err != nil || !changed || n != maxBoundaries {
			t.Errorf("%s: %d definitions are left, %v", how, n, err)
		}
	}
}

func TestOpenBusy(t *testing.T) {
	t.Parallel()
	o := NewOpener()
	if err := o.memory.Acquire(t.Context(), openMemory); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := o.Open(ctx, strings.NewReader("x"), 1); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
}

// TestOpenTakesNoLonger: of what cannot be taken apart in time there is the head.
func TestOpenTakesNoLonger(t *testing.T) {
	t.Parallel()
	o := NewOpener()
	o.timeout = 0
	in := "Subject: x\r\n\r\n" + strings.Repeat("text\r\n", 1_000_000)
	m, err := o.Open(t.Context(), strings.NewReader(in), int64(len(in)))
	if err == nil || !strings.Contains(err.Error(), "not done in") || m == nil || m.Subject != "x" || !m.Partial {
		t.Errorf("%v, %v", err, m != nil)
	}
}

func TestOpenUnreadable(t *testing.T) {
	t.Parallel()
	broken := errors.New("bad frame")
	m, err := patientOpener().Open(t.Context(), io.MultiReader(strings.NewReader("Subject: x\r\n\r\nfirst"), iotest.ErrReader(broken)), 100)
	if !errors.Is(err, broken) || m == nil || m.Subject != "x" || !strings.HasPrefix(m.Text, "first") || !m.Partial {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestDropFields(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, want string }{
		{"A: 1\r\nBcc: x,\r\n y\r\n\tz\r\nB: 2\r\n\r\nBcc: body\r\n", "A: 1\r\nB: 2\r\n\r\nBcc: body\r\n"},
		{"bCC : x\nA: 1\n\n text", "A: 1\n\n text"},
		{"Bcc: x", ""},
		{"Bcc: " + strings.Repeat("x", 100_000) + "\r\n " + strings.Repeat("y", 10_000) + "\r\nA: 1\r\n", "A: 1\r\n"},
		{"A: " + strings.Repeat("Bcc: ", 10_000) + "\r\n\r\n", "A: " + strings.Repeat("Bcc: ", 10_000) + "\r\n\r\n"},
		{"\r\nBcc: body", "\r\nBcc: body"},
		{"no header\r\nBcc: x\r\n", "no header\r\n"},
		{"", ""},
		{" folded first\r\nBcc: x\r\n\r\n\x00\xff no end", " folded first\r\n\r\n\x00\xff no end"},
	} {
		for _, reader := range []io.Reader{strings.NewReader(c.in), iotest.OneByteReader(strings.NewReader(c.in))} {
			got, err := io.ReadAll(DropFields(reader, "bcc", "resent-bcc"))
			if err != nil || string(got) != c.want {
				t.Errorf("%.60q: got %.60q, want %.60q, %v", c.in, got, c.want, err)
			}
		}
	}
}

func FuzzOpen(f *testing.F) {
	f.Add([]byte(alternatives))
	f.Fuzz(func(t *testing.T, in []byte) {
		m, _ := NewOpener().Open(t.Context(), strings.NewReader(string(in)), int64(len(in))) //nolint:errcheck // an error is a right answer
		if m == nil {
			t.Error("nothing")
		}
	})
}
