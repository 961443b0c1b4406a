package cli

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"understudy/internal/archive"
	"understudy/internal/archive/ship"
	"understudy/internal/archive/shiptest"
)

// TestExportOfDamage: what is damaged here comes from the bucket's copy, and
// counts as unreadable when that breaks off.
func TestExportOfDamage(t *testing.T) {
	t.Parallel()
	dir, refs := t.TempDir(), []archive.Ref(nil)
	w, err := archive.OpenWriter(dir, archive.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		spool := archive.NewSpool(dir, 1<<20)
		defer spool.Close()
		fmt.Fprintf(spool, "Subject: %d\r\n\r\nbody\r\n", i)
		ref, err := w.Append(t.Context(), &archive.Envelope{ID: uuid.Must(uuid.NewV7()), Received: time.Now().UTC(), Direction: archive.Inbound}, spool)
		if err != nil {
			t.Fatal(err)
		}
		refs = append(refs, ref)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	segments, err := archive.Segments(dir)
	if err != nil || len(segments) != 1 {
		t.Fatal(segments, err)
	}
	f, err := os.OpenFile(segments[0].Path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	store := shiptest.Start(t).Bucket(t)
	bucket := store.Open(t)
	if err := bucket.Put(t.Context(), segments[0].Name, f, segments[0].Size); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("DAMAGE"), refs[1].Offset+refs[1].Length/2); err != nil {
		t.Fatal(err)
	}
	breaks := store.Through(t, func(r *http.Response) {
		if r.Request.Method == http.MethodGet && strings.HasSuffix(r.Request.URL.Path, ".zst") {
			r.Body = io.NopCloser(io.LimitReader(r.Body, refs[1].Offset+10))
		}
	}).Open(t)
	for _, c := range []struct {
		name                 string
		bucket               *ship.Bucket
		messages, unreadable int64
	}{{"whole", bucket, 3, 0}, {"breaks off", breaks, 2, 1}} {
		var said strings.Builder
		x := &exporter{env: &env{ctx: t.Context(), err: &said}, reader: ship.Reader{Dir: dir, Bucket: c.bucket}, sink: newSink("tar", nopCloser{io.Discard})}
		if err := x.segments(); err != nil {
			t.Fatal(err)
		}
		if x.result.Messages != c.messages || x.result.Unreadable != c.unreadable {
			t.Errorf("%s: %+v; %s", c.name, x.result, said.String())
		}
	}
}
