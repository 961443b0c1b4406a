package ship_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"understudy/internal/archive"
	"understudy/internal/archive/ship"
	"understudy/internal/archive/shiptest"
)

// rig is a local archive of one sealed segment with messages of many sizes,
// and a bucket.
type rig struct {
	*shiptest.Store
	dir     string
	bucket  *ship.Bucket
	reader  ship.Reader
	segment archive.Segment
	refs    []archive.Ref
	bodies  [][]byte
}

func newRig(t testing.TB, s *shiptest.Store, sizes ...int) *rig {
	t.Helper()
	r := &rig{Store: s, dir: t.TempDir(), bucket: s.Open(t)}
	r.reader = ship.Reader{Dir: r.dir, Bucket: r.bucket}
	w, err := archive.OpenWriter(r.dir, archive.Options{MaxBytes: 1 << 40})
	if err != nil {
		t.Fatal(err)
	}
	random := rand.NewChaCha8([32]byte{1})
	for i, n := range sizes {
		body := make([]byte, n)
		random.Read(body) //nolint:errcheck // never fails
		sp := archive.NewSpool(t.TempDir(), 1<<30)
		sp.Write(body) //nolint:errcheck // sticky: Append tells
		ref, err := w.Append(t.Context(), &archive.Envelope{ID: uuid.Must(uuid.NewV7()), Received: time.Now().UTC().Truncate(time.Microsecond),
			Direction: archive.Inbound, Sender: fmt.Sprintf("s%d@internet.test", i), Recipients: []string{"ana@example.test"},
			Mailboxes: []string{"ana@example.test"}}, sp)
		sp.Close()
		if err != nil {
			t.Fatal(err)
		}
		r.refs, r.bodies = append(r.refs, ref), append(r.bodies, body)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	list, err := archive.Segments(r.dir)
	if err != nil || len(list) != 1 {
		t.Fatalf("segments %v, %v", list, err)
	}
	r.segment = list[0]
	return r
}

// put ships the segment by hand.
func (r *rig) put(t testing.TB) {
	t.Helper()
	f, err := os.Open(r.segment.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := r.bucket.Put(t.Context(), r.segment.Name, f, r.segment.Size); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) removeLocal(t testing.TB) {
	t.Helper()
	if err := archive.RemoveSealed(r.dir, r.segment.Name); err != nil {
		t.Fatal(err)
	}
}

// object is the file of the segment's object.
func (r *rig) object() string {
	path, _ := archive.SealedName(r.segment.Name)
	return filepath.Join(r.Directory, path)
}

// check reads every record by its place.
func (r *rig) check(t *testing.T) {
	t.Helper()
	for i, ref := range r.refs {
		rec, err := r.reader.ReadRecord(t.Context(), ref)
		if err != nil {
			t.Errorf("record %d: %v", i, err)
			continue
		}
		body, err := io.ReadAll(rec.Body)
		if err != nil || !bytes.Equal(body, r.bodies[i]) || rec.Sender != fmt.Sprintf("s%d@internet.test", i) || rec.Ref != ref {
			t.Errorf("record %d: %d bytes of %d from %q, %v", i, len(body), len(r.bodies[i]), rec.Sender, err)
		}
		if err := rec.Close(); err != nil {
			t.Error(err)
		}
	}
}

var sizes = []int{0, 1, 100, 5_000, 100_000, 2_000_000, 31_000_000, 700, 3_000_000, 10}

// TestBucket: what was put is read back the same, listed, read record by
// record and as a stream, and deleted.
func TestBucket(t *testing.T) {
	t.Parallel()
	shiptest.Each(t, func(t *testing.T, s *shiptest.Store) {
		r := newRig(t, s, sizes...)
		if _, err := r.bucket.Size(t.Context(), r.segment.Name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("before: %v", err)
		}
		r.put(t)
		r.put(t) // again: no harm
		content, err := os.ReadFile(r.segment.Path)
		if err != nil {
			t.Fatal(err)
		}
		sum, err := r.bucket.Sum(t.Context(), r.segment.Name, r.segment.Size)
		if want := (ship.Sum{Size: int64(len(content)), SHA256: sha256.Sum256(content)}); err != nil || sum != want {
			t.Errorf("sum %v, %v, want %v", sum, err, want)
		}
		if on, err := os.ReadFile(r.object()); err != nil || !bytes.Equal(on, content) {
			t.Errorf("the object's file differs: %d bytes, %v", len(on), err)
		}
		r.check(t)
		r.removeLocal(t)
		r.check(t)
		list, err := r.reader.Segments(t.Context())
		if err != nil || len(list) != 1 || list[0].Name != r.segment.Name || list[0].Size != r.segment.Size || !list[0].Shipped || list[0].Path != "" {
			t.Errorf("segments %+v, %v", list, err)
		}
		r.walk(t, len(sizes), 0)
		for range 2 {
			if err := r.bucket.Delete(t.Context(), r.segment.Name); err != nil {
				t.Error(err)
			}
		}
		if _, err := r.reader.ReadRecord(t.Context(), r.refs[0]); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("after deletion: %v", err)
		}
		if _, err := r.reader.OpenSegment(t.Context(), r.segment.Name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("after deletion: %v", err)
		}
	})
}

// walk reads the segment from its begin to its end.
func (r *rig) walk(t *testing.T, records int, damaged int64) {
	t.Helper()
	s, err := r.reader.OpenSegment(t.Context(), r.segment.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	n := 0
	for ; ; n++ {
		rec, err := s.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(rec.Body)
		var i int
		if _, e := fmt.Sscanf(rec.Sender, "s%d@", &i); e != nil || err != nil || !bytes.Equal(body, r.bodies[i]) {
			t.Errorf("record %q: %d bytes, %v, %v", rec.Sender, len(body), err, e)
		}
	}
	if n != records || damaged == 0 && s.Damaged() != 0 || damaged > 0 && s.Damaged() == 0 {
		t.Errorf("%d records, want %d; %d damaged bytes", n, records, s.Damaged())
	}
}

// TestDamagedCopies: a record that is damaged at one place is read from the
// other; at both it is an error, and costs no other.
func TestDamagedCopies(t *testing.T) {
	t.Parallel()
	shiptest.Each(t, func(t *testing.T, s *shiptest.Store) {
		r := newRig(t, s, 1000, 2000, 3000)
		r.put(t)
		flip(t, r.segment.Path, r.refs[1].Offset+100)
		r.check(t)
		flip(t, r.object(), r.refs[1].Offset+200)
		if _, err := r.reader.ReadRecord(t.Context(), r.refs[1]); !errors.Is(err, archive.ErrDamaged) {
			t.Errorf("damaged twice: %v", err)
		}
		r.removeLocal(t)
		if _, err := r.reader.ReadRecord(t.Context(), r.refs[1]); !errors.Is(err, archive.ErrDamaged) {
			t.Errorf("damaged in the bucket: %v", err)
		}
		r.walk(t, 2, 1)
		wrong := r.refs[2]
		for _, change := range []func(){func() { wrong.Length++ }, func() { wrong.Offset += 1 << 30 }, func() { wrong.Offset = -1 }, func() { wrong.Length = 1 << 62 }} {
			change()
			if _, err := r.reader.ReadRecord(t.Context(), wrong); !errors.Is(err, archive.ErrDamaged) {
				t.Errorf("%+v: %v", wrong, err)
			}
		}
	})
}

func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	_, e1 := f.ReadAt(b[:], at)
	b[0] ^= 1
	_, e2 := f.WriteAt(b[:], at)
	if err := errors.Join(e1, e2); err != nil {
		t.Fatal(err)
	}
}

// TestRanges: a record costs one request for exactly its bytes; a walk takes
// each byte of small records once.
func TestRanges(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var gets []string
	var bytesRead int64
	store := shiptest.Start(t).Bucket(t).Through(t, func(resp *http.Response) {
		mu.Lock()
		defer mu.Unlock()
		if resp.Request.Method == http.MethodGet {
			gets = append(gets, resp.Request.Header.Get("Range"))
			bytesRead += resp.ContentLength
		}
	})
	r := newRig(t, store, 100, 5_000, 3_000_000, 700, 2_500_000)
	r.put(t)
	r.removeLocal(t)
	gets, bytesRead = nil, 0 // of what sending it took
	r.check(t)
	var want []string
	for _, ref := range r.refs {
		want = append(want, fmt.Sprintf("bytes=%d-%d", ref.Offset, ref.Offset+ref.Length-1))
	}
	if strings.Join(gets, " ") != strings.Join(want, " ") {
		t.Errorf("requests\n%v\nwant\n%v", gets, want)
	}
	gets, bytesRead = nil, 0
	r.walk(t, 5, 0)
	if len(gets) != 1 || bytesRead != r.segment.Size {
		t.Errorf("a walk: %v, %d bytes of %d", gets, bytesRead, r.segment.Size)
	}
}
