package web

import (
	"encoding/base64"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"understudy/internal/archive"
	"understudy/internal/archive/shiptest"
)

// ship moves the whole archive of a site to a bucket, as worker does.
func (s *testSite) ship(t *testing.T, to *shiptest.Store) {
	t.Helper()
	b := to.Open(t)
	segments, err := archive.Segments(s.Archive)
	if err != nil || len(segments) == 0 {
		t.Fatal(segments, err)
	}
	for _, seg := range segments {
		f, err := os.Open(seg.Path)
		if err != nil {
			t.Fatal(err)
		}
		err = b.Put(t.Context(), seg.Name, f, seg.Size)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		if err := archive.RemoveSealed(s.Archive, seg.Name); err != nil {
			t.Fatal(err)
		}
	}
	s.Bucket.Store(b)
}

const noStore = "The store of the archive does not answer"

// refuses asks for a message in every way and wants to hear of the store.
func (v *visitor) refuses(s *testSite, id uuid.UUID) {
	v.t.Helper()
	for _, path := range []string{"", "/frame", "/source", "/download", "/files/0"} {
		if status, body := v.get("/archive/" + id.String() + path); status != 503 || !strings.Contains(body, noStore) || !strings.Contains(body, "Mail is not affected") {
			v.t.Errorf("%s without the store: %d %s", path, status, body)
		}
	}
	if status, body := apiCall(v.t, s, "GET", "/api/archive/"+id.String()+"/source", "op", pass, ""); status != 503 || !strings.Contains(body, noStore) {
		v.t.Errorf("API without the store: %d %s", status, body)
	}
}

// TestShippedMessage: what is only in a bucket is read as ever; without the
// bucket that is said, and all else works.
func TestShippedMessage(t *testing.T) {
	t.Parallel()
	shiptest.Each(t, func(t *testing.T, store *shiptest.Store) {
		s := newTestSite(t, cluster)
		shipped := s.archived(t, mail{Sender: "x@internet.test", Mailboxes: []string{anaMail}, Body: odd})[0]
		s.ship(t, store)
		local := s.archived(t, mail{Sender: "x@internet.test", Mailboxes: []string{anaMail}, Body: simple("still here", "x")})[0]
		v := s.as(t, anaMail)
		for path, want := range map[string]string{"": "factúrafdp.exe", "/frame": "<h2>Formatted</h2>", "/source": "boundary=M", "/download": odd, "/files/1": "<script>"} {
			if status, body := v.get("/archive/" + shipped.String() + path); status != 200 || !strings.Contains(body, want) {
				t.Errorf("%s: %d %s", path, status, body)
			}
		}
		if err := store.Stop(); err != nil {
			t.Fatal(err)
		}
		v.refuses(s, shipped)
		if status, body := v.get("/archive/" + local.String()); status != 200 {
			t.Errorf("the local message: %d %s", status, body)
		}
		if status, body := v.get("/archive?q=words"); status != 200 || !strings.Contains(body, shipped.String()) {
			t.Errorf("search: %d %s", status, body)
		}
		store.Start(t)
		if status, body := v.get("/archive/" + shipped.String()); status != 200 {
			t.Errorf("after the outage: %d %s", status, body)
		}
	})
}

// TestStoreRefuses: with wrong keys the page does not speak of the database.
func TestStoreRefuses(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	id := s.archived(t, mail{Sender: "x@internet.test", Mailboxes: []string{anaMail}, Body: odd})[0]
	store := shiptest.Start(t).Bucket(t)
	s.ship(t, store)
	store.Config.CredentialsFile = shiptest.Credentials(t, "nobody", "wrong")
	s.Bucket.Store(store.Open(t))
	s.as(t, anaMail).refuses(s, id)
}

// TestSlowStore: a store that needs longer for a message than other requests
// may take, and than the server's own deadlines.
func TestSlowStore(t *testing.T) {
	t.Parallel()
	const took = requestTime + 2*time.Second
	s := newTestSite(t, cluster)
	random := make([]byte, 4_000_000)
	rand.NewChaCha8([32]byte{1}).Read(random) //nolint:errcheck // never fails
	large := simple("large", base64.StdEncoding.EncodeToString(random))
	ids := s.archived(t, mail{Sender: "x@internet.test", Mailboxes: []string{anaMail}, Body: odd}, mail{Sender: "x@internet.test", Mailboxes: []string{anaMail}, Body: large})
	store := shiptest.Start(t).Bucket(t)
	s.ship(t, store)
	slow := store.Through(t, func(r *http.Response) {
		if r.Request.Method == http.MethodGet && r.ContentLength > 0 {
			r.Body = &slowly{r.Body, r.ContentLength, took}
		}
	})
	s.Bucket.Store(slow.Open(t))
	srv := httptest.NewUnstartedServer(s.Handler())
	srv.Config.ReadTimeout, srv.Config.WriteTimeout = requestTime, requestTime
	srv.Start()
	t.Cleanup(srv.Close)
	jar := s.as(t, anaMail).client.Jar
	small := "/archive/" + ids[0].String()
	for path, want := range map[string]string{small: "factúrafdp.exe", small + "/frame": "<h2>Formatted</h2>", small + "/source": "boundary=M", small + "/files/1": "<script>",
		"/archive/" + ids[1].String() + "/download": large, "/api/archive/" + ids[1].String() + "/source": large} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.SetBasicAuth("op", pass)
			began := time.Now()
			status, got := (&visitor{t, srv.URL, &http.Client{Jar: jar, Timeout: 2 * time.Minute}}).do(req)
			if status != 200 || !strings.Contains(got, want) || time.Since(began) < took/2 {
				t.Errorf("%d, %d bytes, %.300s", status, len(got), got)
			}
		})
	}
}

// slowly gives its bytes evenly over a time.
type slowly struct {
	io.ReadCloser
	bytes int64
	took  time.Duration
}

func (s *slowly) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	<-time.After(s.took * time.Duration(n) / time.Duration(s.bytes))
	return n, err
}

// TestStoreHangs: a store that takes requests and says nothing is given up.
func TestStoreHangs(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	id := s.archived(t, mail{Sender: "x@internet.test", Mailboxes: []string{anaMail}, Body: odd})[0]
	store := shiptest.Start(t).Bucket(t)
	s.ship(t, store)
	s.Bucket.Store(store.Through(t, func(r *http.Response) { <-r.Request.Context().Done() }).Open(t))
	v := s.as(t, anaMail)
	began := time.Now()
	if status, body := v.get("/archive/" + id.String()); status != 503 || !strings.Contains(body, noStore) {
		t.Errorf("%d %s", status, body)
	}
	if took := time.Since(began); took > openTime(0)+time.Minute {
		t.Errorf("took %v", took)
	}
}
