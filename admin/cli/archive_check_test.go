package cli

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"understudy/internal/archive"
	"understudy/internal/archive/ship"
	"understudy/internal/archive/shiptest"
)

// TestVerifyOutage: a store that goes away while its segments are read, or
// compared with those here, says nothing about them: no fault, and no advice
// to drop or delete what may be whole.
func TestVerifyOutage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w, err := archive.OpenWriter(dir, archive.Options{})
	if err != nil {
		t.Fatal(err)
	}
	spool := archive.NewSpool(dir, 1<<20)
	defer spool.Close()
	fmt.Fprint(spool, "Subject: x\r\n\r\nbody\r\n")
	if _, err := w.Append(t.Context(), &archive.Envelope{ID: uuid.Must(uuid.NewV7()), Received: time.Now().UTC(), Direction: archive.Inbound}, spool); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	segments, err := archive.Segments(dir)
	if err != nil || len(segments) != 1 {
		t.Fatal(segments, err)
	}
	f, err := os.Open(segments[0].Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	store := shiptest.Start(t).Bucket(t)
	if err := store.Open(t).Put(t.Context(), segments[0].Name, f, segments[0].Size); err != nil {
		t.Fatal(err)
	}
	var away atomic.Bool
	bucket := store.Through(t, func(r *http.Response) {
		if away.Load() && r.Request.Method == http.MethodGet && strings.HasSuffix(r.Request.URL.Path, ".zst") {
			r.StatusCode = http.StatusServiceUnavailable
		}
	}).Open(t)
	for name, at := range map[string]string{"here too": dir, "in the bucket alone": t.TempDir()} {
		for _, away1 := range []bool{false, true} {
			away.Store(away1)
			c := &checker{deep: true, archive: ship.Reader{Dir: at, Bucket: bucket}, bucket: bucket}
			_, err := c.check(&env{ctx: t.Context(), settings: &Config{}, err: &strings.Builder{}})
			var outage *ship.StoreError
			if errors.As(err, &outage) != away1 || c.report.FaultCount != 0 || !away1 && (err != nil || c.report.Records != 1) {
				t.Errorf("%s, away %v: %v, %+v", name, away1, err, c.report)
			}
		}
	}
}
