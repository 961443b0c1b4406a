package story

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"understudy/internal/archive"
	"understudy/internal/archive/shiptest"
	"understudy/internal/stack"
)

// atRest is a stack whose archive is encrypted and shipped to a bucket.
type atRest struct {
	*Story
	t        *testing.T
	stack    *stack.Stack
	bucket   *shiptest.Store
	key      *age.X25519Identity
	identity string // file of the key
	letters  []letter
}

// TestEncryptionAtRest goes the whole way of mail into an encrypted archive
// and out of it, on one stack: Postfix, milter, segment, worker, website,
// bucket, and the command line; with the identity, without it, and with it
// again.
func TestEncryptionAtRest(t *testing.T) {
	t.Parallel()
	a := newAtRest(t)
	a.letters = []letter{arrives(t, a.Story, 0), arrives(t, a.Story, 0)}
	a.secret(a.info.Archive)
	a.readable()
	a.report("verify", verifyResult{OK: true, Records: 2, Rows: 2})

	// A stopped milter seals its segment; then the bucket alone has it.
	if err := a.stack.Restart(t.Context(), stack.Milter); err != nil {
		t.Fatal(err)
	}
	a.await("the segment to be in the bucket alone", func() error {
		segments, err := archive.Segments(a.info.Archive)
		if err == nil && len(segments) > 0 {
			err = fmt.Errorf("%d on this host", len(segments))
		}
		return err
	})
	a.secret(a.bucket.Directory)
	a.readable()
	a.report("verify --shipped", verifyResult{OK: true, Records: 2, Rows: 2})
	a.rebuilt()

	a.withoutIdentity()
	// With the identity again all that came meanwhile is there as well.
	a.configure(a.identity)
	a.readable()
	a.rebuilt()
	a.report("verify --shipped", verifyResult{OK: true, Records: 3, Rows: 3})
}

func newAtRest(t *testing.T) *atRest {
	t.Helper()
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	a := &atRest{t: t, key: key, identity: filepath.Join(t.TempDir(), "identity"), bucket: shiptest.Start(t).Bucket(t)}
	if err := os.WriteFile(a.identity, []byte(key.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a.Story, a.stack = newStackWith(t, stack.Variables{
		"understudy_archive_recipients":              []any{key.Recipient().String()},
		"understudy_archive_identity":                a.identity,
		"understudy_archive_bucket_url":              a.bucket.Config.URL,
		"understudy_archive_bucket_credentials_file": a.bucket.Config.CredentialsFile,
		"understudy_archive_bucket_ship_after":       "1s",
		"understudy_archive_bucket_keep_local":       "1s",
	})
	return a
}

// await waits for what must come by itself; the worker ships once a minute.
func (a *atRest) await(what string, check func() error) {
	a.t.Helper()
	if err := within(a.t.Context(), 3*patience, what, check); err != nil {
		a.t.Fatal(err)
	}
}

// verifyResult is what "archive verify" finds.
type verifyResult struct {
	OK      bool `json:"ok"`
	Records int  `json:"records"`
	Rows    int  `json:"index_rows"`
	Locked  int  `json:"content_not_checked"`
	NotYet  int  `json:"not_yet_indexed"`
}

// report has the archive verified.
func (a *atRest) report(command string, want verifyResult) {
	a.t.Helper()
	out, err := a.cli(a.t.Context(), append(strings.Fields("archive "+command), "--json")...)
	var got verifyResult
	if err := errors.Join(err, json.Unmarshal(out, &got)); err != nil || got != want {
		a.t.Errorf("archive %s: %+v, want %+v, %v", command, got, want, err)
	}
}

// rebuilt drops the index, which comes back from the bucket.
func (a *atRest) rebuilt() {
	a.t.Helper()
	out, err := a.cli(a.t.Context(), "archive", "reindex", "--all", "--json")
	var r struct {
		Dropped  int  `json:"dropped_rows"`
		Messages int  `json:"messages"`
		Done     bool `json:"done"`
	}
	n := len(a.letters)
	if err := errors.Join(err, json.Unmarshal(out, &r)); err != nil || r.Dropped != n || r.Messages != n || !r.Done {
		a.t.Fatalf("reindex --all: %s, %v", out, err)
	}
	a.readable()
}

// configure starts worker and website with a file of identities, "" without.
func (a *atRest) configure(identity string) {
	a.t.Helper()
	for _, c := range []stack.Component{stack.Worker, stack.Admin} {
		path := filepath.Join(a.stack.Dir(), "etc", string(c)+".yml")
		text, err := os.ReadFile(path)
		if err != nil {
			a.t.Fatal(err)
		}
		lines := strings.Split(string(text), "\n")
		for i, l := range lines {
			if strings.HasPrefix(l, "archive_identity_file:") {
				lines[i] = fmt.Sprintf("archive_identity_file: %q", identity)
			}
		}
		if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o640); err != nil {
			a.t.Fatal(err)
		}
		if err := a.stack.Restart(a.t.Context(), c); err != nil {
			a.t.Fatal(err)
		}
	}
}

// withoutIdentity: mail still comes, is archived and shipped; what cannot be
// read says why, and nothing is dropped that could not be built anew.
func (a *atRest) withoutIdentity() {
	a.t.Helper()
	a.configure("")
	path := a.found(a.letters[0]) // by the index, which is not encrypted
	for _, p := range []string{path, path + "/download"} {
		if page := a.page(http.StatusServiceUnavailable, p); !strings.Contains(page, "This message is encrypted") ||
			!strings.Contains(page, "archive_identity_file") || strings.Contains(page, "factura") {
			a.t.Errorf("%s:\n%.2000s", p, page)
		}
	}
	const why = "encrypted: configure archive_identity_file"
	for _, args := range []string{"archive show " + filepath.Base(path), "archive reindex --all", "archive reindex --missing"} {
		out, err := a.cli(a.t.Context(), strings.Fields(args)...)
		if err == nil || !strings.Contains(err.Error(), why) || bytes.Contains(out, []byte("factura")) {
			a.t.Errorf("%s: %s, %v", args, out, err)
		}
	}
	a.report("verify --shipped", verifyResult{OK: true, Records: 2, Rows: 2, Locked: 2})

	a.letters = append(a.letters, arrives(a.t, a.Story, 0))
	a.await("the worker to say that it waits for the key", func() error {
		return a.metric("worker", "understudy_worker_index_encrypted_segments 1")
	})
	if err := a.stack.Restart(a.t.Context(), stack.Milter); err != nil {
		a.t.Fatal(err)
	}
	a.await("the worker to ship what it cannot read", func() error {
		segments, err := archive.Segments(a.bucket.Directory)
		if err == nil && len(segments) < 2 {
			err = fmt.Errorf("%d in the bucket", len(segments))
		}
		return err
	})
	a.secret(a.bucket.Directory)
	out, err := a.cli(a.t.Context(), "archive", "verify", "--shipped")
	if err != nil || !bytes.Contains(out, []byte("3 records are whole, but their content was not checked: they are "+why)) {
		a.t.Errorf("verify: %s, %v", out, err)
	}
}

// metric looks for a line among a service's metrics.
func (a *atRest) metric(service, line string) error {
	resp, err := http.Get(a.info.Metrics[service])
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && !strings.Contains(string(text), line+"\n") {
		err = fmt.Errorf("metrics lack %q", line)
	}
	return err
}
