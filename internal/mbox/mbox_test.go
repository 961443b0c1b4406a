package mbox

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func readAll(t *testing.T, file string) (bodies []string, seps []Separator) {
	t.Helper()
	r := NewReader(strings.NewReader(file))
	for {
		var b bytes.Buffer
		sep, err := r.Next(&b)
		if err == io.EOF {
			return bodies, seps
		}
		if err != nil {
			t.Fatal(err)
		}
		bodies, seps = append(bodies, b.String()), append(seps, sep)
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 64<<10-1)
	messages := []string{
		"Subject: a\r\n\r\nFrom here\r\n>From there\r\n>>From all\r\n> From no\r\n",
		"",
		"\r\n", "\r\n\r\n\r\n", "a\r\n\r\nFrom x Mon Mar  2 10:11:12 2026\r\n\r\n",
		long + "\r\n" + long + "x\r\n" + long + "xFrom x\r\nFrom " + long + "\r\n",
		"Subject: last\r\n\r\n8 bit \xe9\r\n",
	}
	at := time.Date(2026, 3, 2, 10, 11, 12, 0, time.UTC)
	var file bytes.Buffer
	w := NewWriter(&file)
	for _, m := range messages {
		if err := w.Add("a@b.test", at, strings.NewReader(m)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(file.String(), "\r") {
		t.Error("CR in the file")
	}
	got, seps := readAll(t, file.String())
	if len(got) != len(messages) {
		t.Fatalf("%d messages, want %d", len(got), len(messages))
	}
	for i := range got {
		if got[i] != messages[i] {
			t.Errorf("message %d: %.100q, want %.100q", i, got[i], messages[i])
		}
		if seps[i].Sender != "a@b.test" || !seps[i].Date.Equal(at) {
			t.Errorf("separator %+v", seps[i])
		}
	}
}

func TestForeignFiles(t *testing.T) {
	t.Parallel()
	for file, want := range map[string][]string{
		"": nil,
		"From - Mon Mar 02 10:11:12 2026\r\nA: b\r\n\r\nbody\r\n\r\nFrom - Mon Mar  2 10:11:12 2026\r\nC: d\r\n": {"A: b\r\n\r\nbody\r\n", "C: d\r\n"},
		"From 17@xxx Mon Mar 02 10:11:12 +0000 2026\nA: b\n\nFrom us to you\nFrom a Mon Mar  2 10:11:12 2026\nno end": {
			"A: b\r\n\r\nFrom us to you\r\nFrom a Mon Mar  2 10:11:12 2026\r\nno end\r\n"},
		"\n\nFrom a@b Mon Mar  2 10:11:12 2026\nA: b\n\n\n\n": {"A: b\r\n\r\n\r\n"},
	} {
		got, _ := readAll(t, file)
		if strings.Join(got, "|") != strings.Join(want, "|") {
			t.Errorf("%q: %q, want %q", file, got, want)
		}
	}
	for _, s := range []string{"Mon Mar  2 10:11:12 2026", "Mon Mar 02 10:11:12 +0000 2026", "Mon Mar  2 11:11:12 2026 +0100"} {
		if got := parseDate(s); got.Unix() != 1772446272 {
			t.Errorf("%q is %v", s, got)
		}
	}
	if _, err := NewReader(strings.NewReader("Subject: a message\n\nx\n")).Next(io.Discard); !errors.Is(err, ErrFormat) {
		t.Errorf("a message alone: %v", err)
	}
}

func TestMaildir(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "box")
	m, err := NewMaildir(dir)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 3, 2, 10, 11, 12, 0, time.UTC)
	body := "A: b\r\n\r\nbare \n and no end"
	if err := m.Add("id", at, int64(len(body)), strings.NewReader(body)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "new", "1772446272.id.understudy,S=25")
	got, err := os.ReadFile(path)
	if err != nil || string(got) != body {
		t.Errorf("%q, %v", got, err)
	}
	if info, err := os.Stat(path); err != nil || !info.ModTime().Equal(at) {
		t.Errorf("%v, %v", info, err)
	}
	if _, err := NewMaildir(dir); !errors.Is(err, os.ErrExist) {
		t.Errorf("a second time: %v", err)
	}
}

func FuzzReader(f *testing.F) {
	f.Add("From a Mon Mar  2 10:11:12 2026\nA: b\n\n>From x\n\nFrom b Mon Mar  2 10:11:12 2026\n")
	f.Fuzz(func(t *testing.T, file string) {
		r := NewReader(strings.NewReader(file))
		n := 0
		for {
			var b bytes.Buffer
			_, err := r.Next(&b)
			if err != nil {
				break
			}
			if n += b.Len(); n > 2*len(file)+4 {
				t.Fatal("more comes out than went in")
			}
		}
	})
}
