package ship

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"understudy/internal/archive/shiptest"
	"understudy/internal/wait"
)

// TestShipping: only sealed segments of age are sent; local ones go when the
// bucket and the index have them and their time is over; a second run does
// nothing.
func TestShipping(t *testing.T) {
	t.Parallel()
	shiptest.Each(t, func(t *testing.T, s *shiptest.Store) {
		r := newRig(t, s)
		r.add(t, 3, 5)
		w := r.shipper(t)
		w.After = time.Hour
		work(t, w)
		r.counts(t, 3, 0, 0)
		metric(t, "waiting", w.metrics.waitingSegments, 0)
		w.After, w.KeepLocal = 0, time.Hour
		for range 2 {
			work(t, w)
			r.counts(t, 3, 3, 3)
			metric(t, "segments", w.metrics.segments, 3)
		}
		w.KeepLocal = 0
		work(t, w)
		r.counts(t, 3, 3, 3) // not in the index
		r.index(t)
		if _, err := r.store.Pool.Exec(t.Context(), `UPDATE segment SET indexed = indexed - 1 WHERE name = $1`, r.local(t)[0].Name); err != nil {
			t.Fatal(err)
		}
		work(t, w)
		r.counts(t, 1, 3, 3)
		r.readable(t)
		r.add(t, 2, 1)
		if list, err := r.reader.Segments(t.Context()); err != nil || len(list) != 5 {
			t.Errorf("the whole archive: %+v, %v", list, err)
		}
		work(t, w)
		r.index(t)
		work(t, w)
		r.counts(t, 1, 5, 5)
		r.readable(t)
		for _, kind := range []string{"store", "refused", "corrupt", "local"} {
			metric(t, kind, w.metrics.errors.WithLabelValues(kind), 0)
		}
	})
}

// interrupted lets two segments be sent; the next one waits for the outage.
type interrupted struct {
	Store
	begun  atomic.Int32
	outage chan struct{}
}

func (i *interrupted) BeginShipping(ctx context.Context, segment string, size int64, sha256 []byte) (bool, error) {
	if i.begun.Add(1) == 3 {
		select {
		case <-i.outage:
		case <-ctx.Done():
		}
	}
	return i.Store.BeginShipping(ctx, segment, size, sha256)
}

// TestOutage: the store goes away while segments are being sent, and comes
// back: nothing is lost, the runs end soon, back-off grows.
func TestOutage(t *testing.T) {
	t.Parallel()
	shiptest.Each(t, func(t *testing.T, s *shiptest.Store) {
		r := newRig(t, s)
		r.add(t, 12, 4)
		r.index(t)
		w := r.shipper(t)
		w.wait = time.Millisecond
		db := &interrupted{Store: r.store, outage: make(chan struct{})}
		w.Store = db
		var wg sync.WaitGroup
		t.Cleanup(wg.Wait)
		wg.Go(func() {
			if err := w.once(t.Context()); err != nil {
				t.Error(err)
			}
		})
		wait.True(t, "two shipped segments", func() bool { return testutil.ToFloat64(w.metrics.segments) >= 2 })
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		close(db.outage)
		wg.Wait()
		metric(t, "segments", w.metrics.segments, 2)
		w.wait, w.notBefore = time.Hour, time.Time{}
		work(t, w)
		metric(t, "waiting", w.metrics.waitingSegments, 10)
		if testutil.ToFloat64(w.metrics.errors.WithLabelValues("store")) < 1 || w.metrics.oldestAge() <= 0 || w.failures < 2 {
			t.Errorf("errors %v, oldest %v, failures %d", testutil.ToFloat64(w.metrics.errors.WithLabelValues("store")), w.metrics.oldestAge(), w.failures)
		}
		before := testutil.ToFloat64(w.metrics.errors.WithLabelValues("store"))
		work(t, w) // waits
		metric(t, "errors while it waits", w.metrics.errors.WithLabelValues("store"), before)
		s.Start(t)
		r.readable(t)
		w.notBefore = time.Time{}
		work(t, w)
		r.counts(t, len(r.local(t)), 12, 12)
		work(t, w)
		r.counts(t, 0, 12, 12)
		r.readable(t)
		if w.failures != 0 || w.metrics.oldestAge() != 0 {
			t.Errorf("failures %d, oldest %v", w.failures, w.metrics.oldestAge())
		}
	})
}

// TestCorruptCopy: a copy of the right size with another content, as of an
// upload that went wrong, is found out and replaced.
func TestCorruptCopy(t *testing.T) {
	t.Parallel()
	shiptest.Each(t, func(t *testing.T, s *shiptest.Store) {
		r := newRig(t, s)
		r.add(t, 1, 5)
		seg := r.local(t)[0]
		if err := r.reader.Bucket.Put(t.Context(), seg.Name, zeros(seg.Size), seg.Size); err != nil {
			t.Fatal(err)
		}
		r.index(t)
		w := r.shipper(t)
		work(t, w)
		metric(t, "corrupt", w.metrics.errors.WithLabelValues("corrupt"), 1)
		r.counts(t, 0, 1, 1)
		r.readable(t)
	})
}

// TestCorruptStore: the store spoils what it writes, twice, or always.
func TestCorruptStore(t *testing.T) {
	t.Parallel()
	s := shiptest.Start(t).Bucket(t)
	var spoil atomic.Int64
	through := s.Through(t, func(resp *http.Response) {
		if resp.Request.Method != http.MethodPut || resp.StatusCode != http.StatusOK || spoil.Add(-1) < 0 {
			return
		}
		matches, err := filepath.Glob(s.Directory + "/*/*.tar.zst")
		if err != nil || len(matches) != 1 {
			t.Errorf("objects %v, %v", matches, err)
			return
		}
		if err := spoilFile(matches[0]); err != nil {
			t.Error(err)
		}
	})
	r := newRig(t, through)
	r.add(t, 1, 5)
	r.index(t)
	w := r.shipper(t)
	spoil.Store(1000)
	work(t, w)
	metric(t, "corrupt", w.metrics.errors.WithLabelValues("corrupt"), tries+1)
	r.counts(t, 1, 0, 0)
	r.readable(t)
	spoil.Store(2)
	w.notBefore = time.Time{}
	work(t, w)
	metric(t, "corrupt", w.metrics.errors.WithLabelValues("corrupt"), tries+1+2)
	r.counts(t, 0, 1, 1)
	r.readable(t)
}

// TestRefused: wrong keys are told from an outage; new keys in the file are
// used without a restart.
func TestRefused(t *testing.T) {
	t.Parallel()
	server := shiptest.Start(t)
	s := server.Bucket(t)
	right := s.Config.CredentialsFile
	s.Config.CredentialsFile = shiptest.Credentials(t, server.AccessKey, "wrong")
	r := newRig(t, s)
	r.add(t, 2, 1)
	r.index(t)
	w := r.shipper(t)
	work(t, w)
	metric(t, "refused", w.metrics.errors.WithLabelValues("refused"), 1)
	if got := testutil.ToFloat64(w.metrics.waitingSegments); got != 2 || len(r.local(t)) != 2 {
		t.Errorf("%v wait, %d are local", got, len(r.local(t)))
	}
	text, err := os.ReadFile(right)
	if err == nil {
		err = os.WriteFile(s.Config.CredentialsFile, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := r.reader.Bucket.Close(); err != nil { // or five minutes
		t.Fatal(err)
	}
	w.notBefore = time.Time{}
	work(t, w)
	r.counts(t, 0, 2, 2)
	r.readable(t)
}
