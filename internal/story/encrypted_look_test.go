package story

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"understudy/internal/archive"
)

// secret looks into every file of an archive, on this host or in the bucket:
// none says anything of the letters, and who has the key reads them all.
func (a *atRest) secret(dir string) {
	a.t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		for _, l := range a.letters {
			for _, word := range []string{l.token, l.from, l.to, "factura"} {
				if bytes.Contains(content, []byte(word)) {
					a.t.Errorf("%s says %q", path, word)
				}
			}
		}
		return err
	})
	segments, err2 := archive.Segments(dir)
	if err := errors.Join(err, err2); err != nil {
		a.t.Fatal(err)
	}
	read := 0
	for _, s := range segments {
		read += a.decrypt(dir, s.Name)
	}
	if read != len(a.letters) {
		a.t.Fatalf("%d letters in the %d segments of %s, want %d", read, len(segments), dir, len(a.letters))
	}
}

// decrypt reads a segment without the key, which tells nothing, and with it.
// It returns how many of the letters it has.
func (a *atRest) decrypt(dir, name string) (n int) {
	a.t.Helper()
	locked, err1 := archive.OpenSegment(dir, name)
	open, err2 := archive.OpenSegment(dir, name, a.key)
	if err := errors.Join(err1, err2); err != nil {
		a.t.Fatal(err)
	}
	defer locked.Close()
	defer open.Close()
	for {
		_, err := locked.Next()
		record, err2 := open.Next()
		if errors.Is(err, io.EOF) && errors.Is(err2, io.EOF) {
			return n
		}
		if !errors.Is(err, archive.ErrEncrypted) || err2 != nil {
			a.t.Fatalf("%s: without the key %v, with it %v", name, err, err2)
		}
		body, err := io.ReadAll(record.Body)
		for _, l := range a.letters {
			if err == nil && l.same(body) == nil && record.Sender == l.from {
				n++
			}
		}
	}
}

// readable finds each letter on the website by a word of its text, looks at
// it and downloads it, and does so on the command line.
func (a *atRest) readable() {
	a.t.Helper()
	for _, l := range a.letters {
		if err := a.archived(a.t.Context(), l, "inbound"); err != nil {
			a.t.Fatal(err)
		}
		path := a.found(l)
		if page := a.page(http.StatusOK, path); !strings.Contains(page, "¿llegó la factura? "+l.token) {
			a.t.Errorf("%s does not show the text:\n%.2000s", path, page)
		}
		if err := l.same([]byte(a.page(http.StatusOK, path+"/download"))); err != nil {
			a.t.Errorf("download of %s: %v", path, err)
		}
	}
}

// found searches for a letter on the website and returns its page's path.
func (a *atRest) found(l letter) string {
	a.t.Helper()
	page := a.page(http.StatusOK, "/archive?q="+url.QueryEscape(`factura "`+l.token+`"`))
	_, rest, ok := strings.Cut(page, `href="/archive/0`) // a message's id: UUIDv7
	id, _, _ := strings.Cut(rest, `"`)
	id, _, _ = strings.Cut(id, "?")
	if !ok {
		a.t.Fatalf("not found on the website:\n%.3000s", page)
	}
	return "/archive/0" + id
}

// page gets a page of the website as the domain's admin.
func (a *atRest) page(status int, path string) string {
	a.t.Helper()
	web, err := signIn(a.t.Context(), a.info.Portal, a.info.Admin.Login, a.info.Admin.Password)
	if err != nil {
		a.t.Fatal(err)
	}
	resp, err := web.client.Get(web.base + path)
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status {
		a.t.Fatalf("%s: %s, want %d, %v:\n%.2000s", path, resp.Status, status, err, body)
	}
	return string(body)
}
