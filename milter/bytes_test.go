package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"understudy/internal/wait"
)

// corpus reads the messages in MAIL_CORPUS, by default the shared corpus
// beside the module.
func corpus(t *testing.T) map[string][]byte {
	t.Helper()
	dir := os.Getenv("MAIL_CORPUS")
	if dir == "" {
		dir = "../../shared/corpus"
	}
	out := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		out[path], err = os.ReadFile(path)
		return err
	})
	if err != nil || len(out) == 0 {
		t.Fatalf("no messages in MAIL_CORPUS=%s: %v", dir, err)
	}
	return out
}

// nasty are messages of which one byte easily goes astray.
func nasty() map[string][]byte {
	out := map[string][]byte{
		"empty":              nil,
		"only an empty line": []byte("\r\n"),
		"header only":        []byte("Subject: x\r\n"),
		"body only":          []byte("\r\nbody\r\n"),
		"no header":          []byte("just text\r\nmore\r\n"),
		"spaces":             []byte("A:x\r\nB: x\r\nC:  x\r\nD:\tx\r\nE: x \t\r\nF:\r\nG: \r\nH:   \r\n\r\nx\r\n"),
		"folding":            []byte("A: a\r\n b\r\n\tc\r\n  \td\r\nB:\r\n x\r\nC: x\r\n \r\n y\r\n\r\nx\r\n"),
		"order and case":     []byte("subject: 1\r\nSUBJECT: 2\r\nSubject: 3\r\nReceived: z\r\nsubject: 4\r\n\r\nx\r\n"),
		"odd names":          []byte("X!#$%&'*+-/=?^_`{|}~: x\r\nx.y: z\r\n1: 2\r\n\xe9: x\r\n\r\nx\r\n"),
		"8 bit":              []byte("Subject: \xe9\xff\x80\xc3\xa9\r\n\r\n\xe9\xff\x80\x00nul\r\n\x01\x7f\r\n"),
		"dots":               []byte("Subject: .\r\n\r\n.\r\n..\r\n...x\r\n.x\r\n"),
		"bare CR":            []byte("Subject: a\rb\r\nX: y\r\r\n\r\na\rb\r\nc\r\r\nd\r\n"),
		"bare LF":            []byte("Subject: a\nX: y\n\nbody\n.\n\nend\n"),
		"From line":          []byte("From someone Mon Jan 1\r\nSubject: x\r\n\r\nFrom here\r\n>From there\r\n"),
		"quoted From line":   []byte(">From someone\r\nSubject: x\r\n\r\nx\r\n"),
		"begins with space":  []byte(" folded into nothing\r\nSubject: x\r\n\r\nx\r\n"),
		"no empty line":      []byte("Subject: x\r\nthis is no header\r\nA: b\r\n"),
		"space before colon": []byte("Subject : x\r\nA\t: b\r\n\r\nx\r\n"),
		"dropped headers":    []byte("Return-Path: <x@y>\r\nBcc: a@b,\r\n c@d\r\nContent-Length: 5\r\nResent-Bcc: e@f\r\nTo: g@h\r\n\r\nBcc: stays\r\n"),
		"trailing lines":     []byte("Subject: x\r\n\r\nx\r\n\r\n\r\n\r\n"),
		"no final newline":   []byte("Subject: x\r\n\r\nlast line"),
		"ours already":       []byte("X-Understudy-Id: 00000000-0000-0000-0000-000000000000\r\nSubject: x\r\n\r\nx\r\n"),
		"NUL in header":      []byte("Subject: a\x00b\r\n c\r\nX: y\x00\r\nA: b\r\n c\x00\r\n d\r\n\r\nx\x00y\r\n"),
		"NUL in name":        []byte("Subject: a\r\nX\x00: y\r\n\r\nx\r\n"),
		"multipart":          []byte("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain \r\n\r\nx\r\n--b\r\nnot a header\r\n\r\n--b--\r\n"),
		"nested message":     []byte("Content-Type: message/rfc822\r\n\r\nBcc: inner\r\nSubject : y\r\n\r\nx\r\n"),
		"long body line":     []byte("Subject: x\r\n\r\n" + strings.Repeat("0123456789", 30000) + "\r\nend\r\n"),
		"long header":        []byte("Subject: " + strings.Repeat("0123456789", 5000) + "\r\n\r\nx\r\n"),
		"many headers":       []byte(strings.Repeat("X-Many: 1\r\n", 3000) + "\r\nx\r\n"),
		"long folded":        []byte("To: a@b" + strings.Repeat(",\r\n c@d", 3000) + "\r\n\r\nx\r\n"),
	}
	maps.Copy(out, nastier())
	for _, n := range []int{996, 997, 998, 999, 1000, 2046, 2047, 2048, 2049, 4095, 4096, 4097, 65533, 65534, 65535, 65536, 131072} {
		out[fmt.Sprintf("line of %d", n)] = []byte("Subject: x\r\n\r\n" + strings.Repeat("x", n) + "\r\ny\r\n")
		out[fmt.Sprintf("header of %d", n)] = []byte("Subject: " + strings.Repeat("x", n-9) + "\r\nA: b\r\n\r\ny\r\n")
		out[fmt.Sprintf("body of %d", n)] = []byte("Subject: x\r\n\r\n" + strings.Repeat("x\r\n", n/3) + "\r\ny\r\n")
	}
	return out
}

func TestByteExact(t *testing.T) {
	t.Parallel()
	p, s := startBoth(t)
	messages := corpus(t)
	maps.Copy(messages, nasty())
	want, known, equal := sendAll(t, p, messages), 0, 0
	got := readArchive(t, s.archive)
	for _, a := range got {
		name, ok := want[a.Sender]
		if !ok {
			t.Errorf("archived but not sent: %s", a.Sender)
			continue
		}
		known++
		if expected := asPostfixSees(messages[name], byDATA|stockDrops); a.body != expected {
			t.Errorf("%s: archived with other bytes, first difference:\n%s", name, firstDifference(expected, a.body))
		} else {
			equal++
		}
	}
	sum := fmt.Sprintf("sent %d = accepted %d = archived %d = equal %d", len(messages), len(want), len(got), equal)
	if known != len(want) || len(got) != len(messages) || len(want) != len(messages) || equal != len(messages) {
		t.Error(sum + " does not hold")
	}
	t.Log(sum)
	checkDelivered(t, p, got)
}

// sendAll sends each message from an address of its own on one connection,
// and returns the names by sender.
func sendAll(t *testing.T, p *postfix, messages map[string][]byte) map[string]string {
	t.Helper()
	c := p.connect(t)
	senders := map[string]string{}
	for name, body := range messages {
		sender := fmt.Sprintf("s%d@example.org", len(senders))
		if reply := c.send(sender, body, "ana@example.test"); !strings.HasPrefix(reply, "250") {
			t.Fatalf("%s: %s", name, reply)
		}
		senders[sender] = name
	}
	return senders
}

// checkDelivered checks that each archived message was delivered with its id
// on top, and the same bytes below the trace header that Postfix adds.
func checkDelivered(t *testing.T, p *postfix, got map[string]archived) {
	t.Helper()
	wait.Until(t, "all messages are delivered", func() error {
		if n := len(p.sink.arrived()); n < len(got) {
			return fmt.Errorf("%d of %d", n, len(got))
		}
		return nil
	})
	for _, m := range p.sink.arrived() {
		top, rest, _ := strings.Cut(m, "\r\n")
		id, ok := strings.CutPrefix(top, "X-Understudy-Id: ")
		if !ok || !strings.HasPrefix(rest, "Received: ") {
			t.Errorf("delivered message begins with %.200q", m)
			continue
		}
		lines := strings.SplitAfter(rest, "\r\n")
		n := 1
		for n < len(lines) && (strings.HasPrefix(lines[n], "\t") || strings.HasPrefix(lines[n], " ")) {
			n++
		}
		below := strings.Join(lines[n:], "")
		if below != got[id].body && below+"\r\n" != got[id].body {
			t.Errorf("%s delivered and archived differ:\n%s", id, firstDifference(got[id].body, below))
		}
	}
}

func firstDifference(want, got string) string {
	i := 0
	for i < len(want) && i < len(got) && want[i] == got[i] {
		i++
	}
	part := func(s string) []byte { return bytes.Clone([]byte(s[max(0, min(i-30, len(s))):min(i+60, len(s))])) }
	return fmt.Sprintf("at %d of %d and %d\nwant ...%q\ngot  ...%q", i, len(want), len(got), part(want), part(got))
}
