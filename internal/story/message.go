package story

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
)

// letter is a message of the story: found again by its token, compared byte
// for byte with its text.
type letter struct {
	token string
	from  string
	to    string
	text  []byte // CRLF line ends, as sent
}

// newLetter writes a message with what changes easily on the way: odd
// spacing, folded fields, 8-bit text, leading dots, a long line.
func newLetter(from, to, subject string) letter {
	token := uuid.NewString()
	var b strings.Builder
	fmt.Fprintf(&b, "From: <%s>\r\nTo:   <%s>\r\nsubject:%s\r\n\t(folded  twice)\r\n   %s\r\n", from, to, subject, token)
	fmt.Fprintf(&b, "Message-ID: <%s@story.invalid>\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000\r\n", token)
	b.WriteString("MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\nX-Empty:\r\n\r\n")
	fmt.Fprintf(&b, "Señora, ¿llegó la factura? %s\r\n.a line with a dot\r\n..\r\ntrailing blanks  \t\r\n%s\r\n\r\n\r\nend\r\n", token, strings.Repeat("long ", 190))
	return letter{token: token, from: from, to: to, text: []byte(b.String())}
}

// traceFields are what servers on the way put on top of a message.
var traceFields = []string{"return-path:", "delivered-to:", "x-original-to:", "received:", "x-understudy-id:", "x-understudy-redelivered:"}

// belowTrace cuts the trace fields off the top and returns the rest with LF
// line ends (a maildir holds no CR).
func belowTrace(text []byte) []byte {
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	for {
		head := bytes.ToLower(text[:min(len(text), 30)])
		trace := false
		for _, f := range traceFields {
			trace = trace || bytes.HasPrefix(head, []byte(f))
		}
		if !trace {
			return text
		}
		for first := true; first || len(text) > 0 && (text[0] == ' ' || text[0] == '\t'); first = false {
			_, text, _ = bytes.Cut(text, []byte("\n"))
		}
	}
}

// same reports how the received message differs from the letter below the
// trace fields; nil when not at all.
func (l letter) same(got []byte) error {
	want := bytes.ReplaceAll(l.text, []byte("\r\n"), []byte("\n"))
	have := belowTrace(got)
	if bytes.Equal(want, have) {
		return nil
	}
	i := 0
	for i < min(len(want), len(have)) && want[i] == have[i] {
		i++
	}
	return fmt.Errorf("differs at octet %d: sent %.60q, got %.60q", i, want[i:], have[i:])
}

// maildir returns the messages of a maildir, new and seen, that contain token
// (all for ""). A missing maildir is empty.
func maildir(dir, token string) ([][]byte, error) {
	var out [][]byte
	for _, sub := range []string{"new", "cur"} {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			text, err := os.ReadFile(filepath.Join(dir, sub, e.Name()))
			if os.IsNotExist(err) {
				continue // moved from new to cur meanwhile
			}
			if err != nil {
				return nil, err
			}
			if token == "" || bytes.Contains(text, []byte(token)) {
				out = append(out, text)
			}
		}
	}
	return out, nil
}
