package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"filippo.io/age"

	"understudy/internal/archive"
)

// TestEncryptedArchive: mail through Postfix into an archive for which this
// host has the public key alone, with the service killed and started between:
// nothing that lies on its disk tells of a message, and who has the key reads
// all.
func TestEncryptedArchive(t *testing.T) {
	t.Parallel()
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	p := startPostfix(t)
	s := newService(t, p.socket, t.TempDir(), "archive_recipients: ["+key.Recipient().String()+"]")
	bodies := []string{"Subject: Geheimnis\r\n\r\nklein\r\n", "Subject: Geheimnis\r\n\r\n" + strings.Repeat("Geheimnis\r\n", 30_000)}
	for _, body := range bodies {
		s.start(t)
		c, err := dial(p.smtp)
		if err != nil {
			t.Fatal(err)
		}
		if reply := c.send("absender@example.org", []byte(body), "ana@example.test"); !strings.HasPrefix(reply, "250") {
			t.Fatal(reply)
		}
		c.close()
		s.stop(t, syscall.SIGKILL)
	}
	s.start(t) // recovers what was left open, without the key
	s.stop(t, syscall.SIGTERM)
	for _, dir := range []string{s.archive, s.dir} {
		tellsNothing(t, dir)
	}
	got := readArchive(t, s.archive, key)
	if len(got) != len(bodies) {
		t.Fatalf("%d messages", len(got))
	}
	for _, a := range got {
		if !slices.Contains(bodies, a.body) || a.Sender != "absender@example.org" || !slices.Equal(a.Mailboxes, []string{"ana@example.test"}) {
			t.Errorf("got %+v and %d bytes", a.Envelope, len(a.body))
		}
	}
	segments, err := archive.Segments(s.archive)
	if err != nil || len(segments) != 2 {
		t.Fatal(segments, err)
	}
	r, err := archive.OpenSegment(s.archive, segments[0].Name)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Next(); !errors.Is(err, archive.ErrEncrypted) {
		t.Errorf("without the key: %v", err)
	}
}

// tellsNothing looks into every file below dir.
func tellsNothing(t *testing.T, dir string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		for _, word := range []string{"Geheimnis", "absender"} {
			if bytes.Contains(content, []byte(word)) {
				t.Errorf("%s says %q", path, word)
			}
		}
		files++
		return err
	})
	if err != nil || files == 0 {
		t.Errorf("%d files in %s: %v", files, dir, err)
	}
}
