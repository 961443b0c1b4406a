package archive

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"golang.org/x/sync/semaphore"
)

// openTest opens a writer that is closed at the end of the test.
func openTest(t testing.TB, dir string, opts Options) *Writer {
	t.Helper()
	if opts.Log == nil {
		opts.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	if opts.SpoolDir == "" {
		opts.SpoolDir = t.TempDir()
	}
	w, err := OpenWriter(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func testEnvelope(n int) *Envelope {
	return &Envelope{
		ID: uuid.Must(uuid.NewV7()), Received: time.Now().UTC().Truncate(time.Microsecond), Direction: Inbound,
		Sender: fmt.Sprintf("s%d@example.org", n), Recipients: []string{"ana@example.test", "bruno@example.test"},
		Mailboxes: []string{"ana@example.test"}, Client: "192.0.2.7", Helo: "mx.example.org", QueueID: "4ZzzQQ0x1yzV",
	}
}

func spoolOf(t testing.TB, body []byte) *Spool {
	t.Helper()
	s := NewSpool(t.TempDir(), 1<<30)
	t.Cleanup(func() { s.Close() })
	if _, err := s.Write(body); err != nil {
		t.Fatal(err)
	}
	return s
}

func appendTest(t testing.TB, w *Writer, e *Envelope, body []byte) Ref {
	t.Helper()
	ref, err := w.Append(t.Context(), e, spoolOf(t, body))
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// readBack is a record read back with its body.
type readBack struct {
	Envelope Envelope
	Ref      Ref
	Body     string
}

// readAll reads every record of every segment.
func readAll(t testing.TB, dir string) (out []readBack, damaged int64) {
	t.Helper()
	segments, err := Segments(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range segments {
		recs, d := readSegment(t, dir, s.Name)
		out, damaged = append(out, recs...), damaged+d
	}
	return out, damaged
}

func readSegment(t testing.TB, dir, name string, keys ...age.Identity) (out []readBack, damaged int64) {
	t.Helper()
	r, err := OpenSegment(dir, name, keys...)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for {
		rec, err := r.Next()
		if err == io.EOF {
			return out, r.Damaged()
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(rec.Body)
		if err != nil {
			t.Fatalf("body of %s: %v", rec.ID, err)
		}
		if int64(len(body)) != rec.Size {
			t.Fatalf("body of %s has %d bytes, want %d", rec.ID, len(body), rec.Size)
		}
		out = append(out, readBack{rec.Envelope, rec.Ref, string(body)})
	}
}

// corpus reads the messages in MAIL_CORPUS, by default the shared corpus
// beside the module.
func corpus(t testing.TB) map[string][]byte {
	t.Helper()
	dir := os.Getenv("MAIL_CORPUS")
	if dir == "" {
		dir = "../../../shared/corpus"
	}
	out := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, ".md") {
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

func TestRoundTripOfCorpus(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := openTest(t, dir, Options{MaxBytes: 512 << 10})
	want := map[uuid.UUID]readBack{}
	n := 0
	for _, body := range corpus(t) {
		e := testEnvelope(n)
		n++
		want[e.ID] = readBack{*e, appendTest(t, w, e, body), string(body)}
	}
	for _, state := range []string{"open", "sealed"} {
		got, damaged := readAll(t, dir)
		if damaged != 0 || len(got) != len(want) {
			t.Fatalf("%s: %d records and %d damaged bytes, want %d and 0", state, len(got), damaged, len(want))
		}
		for _, g := range got {
			if diff := cmp.Diff(want[g.Envelope.ID], g); diff != "" {
				t.Fatalf("%s: %s", state, diff)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	segments, err := Segments(dir)
	if err != nil || len(segments) < 2 {
		t.Fatalf("segments %v, %v: want several", segments, err)
	}
	for _, s := range segments {
		if s.Open {
			t.Errorf("%s is open after Close", s.Name)
		}
	}
	for _, s := range want {
		rec, err := ReadRecord(dir, s.Ref)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(rec.Body)
		if err != nil || string(body) != s.Body {
			t.Fatalf("ReadRecord of %s: %v, body differs: %v", s.Ref.Segment, err, string(body) != s.Body)
		}
		if err := rec.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEnvelopeKeepsAnyBytes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := openTest(t, dir, Options{})
	all := make([]byte, 255)
	for i := range all {
		all[i] = byte(i + 1)
	}
	many := make([]string, 2000)
	for i := range many {
		many[i] = fmt.Sprintf("%s%d@example.test", strings.Repeat("x", 60), i)
	}
	var want []readBack
	for _, e := range []*Envelope{
		{Sender: "", Recipients: []string{}, Mailboxes: []string{}, Direction: Outbound},
		{Sender: string(all), Recipients: []string{string(all), "", "a,b\"]", "\u2028"}, Mailboxes: []string{"é@example.test"}, Direction: Internal},
		{Sender: "\U0010FF80\U0010FFFF\xff\u00e9", Helo: "line\nbreak=\x00", SASLUser: "u\xe9", QueueID: "1 UNDERSTUDY.id=x\n", Client: "::1",
			Recipients: many, Mailboxes: many, Direction: Inbound, Route: []string{RoutePrimary, RouteInternet}},
	} {
		e.ID, e.Received = uuid.Must(uuid.NewV7()), time.Now().UTC().Truncate(time.Microsecond)
		for _, body := range []string{"", "x", strings.Repeat("y", 511), strings.Repeat("z", 512), "no final newline\r\n.\r\nend"} {
			want = append(want, readBack{*e, appendTest(t, w, e, []byte(body)), body})
		}
	}
	got, damaged := readAll(t, dir)
	if diff := cmp.Diff(want, got); diff != "" || damaged != 0 {
		t.Errorf("damaged %d, difference: %s", damaged, diff)
	}
}

func TestTooLarge(t *testing.T) {
	t.Parallel()
	w := openTest(t, t.TempDir(), Options{})
	s := NewSpool(t.TempDir(), 1000)
	defer s.Close()
	if _, err := s.Write(make([]byte, 1001)); err == nil {
		t.Error("a spool took more than its bound")
	}
	if _, err := w.Append(t.Context(), testEnvelope(1), s); err == nil {
		t.Error("a spool that overflowed was archived")
	}
	e := testEnvelope(2)
	e.Recipients = []string{strings.Repeat("x", maxEnvelope)}
	if _, err := w.Append(t.Context(), e, spoolOf(t, nil)); err == nil {
		t.Error("an envelope out of bounds was archived")
	}
	appendTest(t, w, testEnvelope(3), []byte("still works"))
}

func TestAppendRespectsContext(t *testing.T) {
	t.Parallel()
	hold, held := make(chan struct{}), make(chan struct{}, 1)
	release := sync.OnceFunc(func() { close(hold) })
	dir := t.TempDir()
	w := openTest(t, dir, Options{sync: func(f *os.File) error {
		select {
		case held <- struct{}{}:
		default:
		}
		<-hold
		return fdatasync(f)
	}})
	t.Cleanup(release) // before w is closed, which waits for it
	first := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, err := w.Append(ctx, testEnvelope(1), spoolOf(t, []byte("stuck in fdatasync")))
		first <- err
	}()
	<-held
	waiting, stop := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer stop()
	if _, err := w.Append(waiting, testEnvelope(2), spoolOf(t, []byte("never written"))); err == nil {
		t.Error("Append outlived its context")
	}
	cancel()
	if err := <-first; err == nil {
		t.Error("Append outlived its context")
	}
	release()
	appendTest(t, w, testEnvelope(3), []byte("after the trouble"))
	got, _ := readAll(t, dir)
	if len(got) != 2 || got[0].Body != "stuck in fdatasync" || got[1].Body != "after the trouble" {
		t.Errorf("archive holds %d records: %+v", len(got), got)
	}
}

func TestSpool(t *testing.T) {
	t.Parallel()
	for _, step := range []int{1000, 4096, spoolFree, spoolFree + 1, spoolShare / 7, spoolShare/7 + 1, 3 * spoolShare} {
		s, want := NewSpool(t.TempDir(), 1<<30), []byte{}
		for i := range 7 {
			chunk := bytes.Repeat([]byte{byte('a' + i)}, step)
			want = append(want, chunk...)
			if n, err := s.Write(chunk); n != step || err != nil {
				t.Fatal(n, err)
			}
			var got bytes.Buffer
			if _, err := s.WriteTo(&got); err != nil || !bytes.Equal(got.Bytes(), want) {
				t.Fatalf("step %d: reads back %d of %d bytes, %v", step, got.Len(), len(want), err)
			}
		}
		if s.Size() != int64(len(want)) || cap(s.buf) > 2*spoolFree {
			t.Errorf("size %d, want %d; holds %d bytes in memory", s.Size(), len(want), cap(s.buf))
		}
		if inFile := s.file != nil; inFile != (len(want) > spoolShare) {
			t.Errorf("%d bytes are in a file: %v", len(want), inFile)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := s.Write([]byte("x")); err == nil {
			t.Error("a closed spool takes bytes")
		}
	}
}

// TestSpoolMemory: a spool takes no more than all may have together, gives it
// back, and keeps every byte when there is none left.
func TestSpoolMemory(t *testing.T) {
	t.Parallel()
	memory := semaphore.NewWeighted(3 * chunkSize)
	body := randomBytes(1, 4*chunkSize)
	write := func() *Spool {
		s := NewSpool(t.TempDir(), 1<<30)
		s.memory = memory
		if _, err := s.Write(body); err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if _, err := s.WriteTo(&got); err != nil || !bytes.Equal(got.Bytes(), body) {
			t.Fatalf("reads back %d of %d bytes, %v", got.Len(), len(body), err)
		}
		return s
	}
	first := write()
	if second := write(); first.file != nil || second.file == nil {
		t.Errorf("files: %v, %v; want none for the first spool, one for the second", first.file, second.file)
	}
	if _, err := first.Write([]byte("x")); err != nil || first.file == nil {
		t.Errorf("a byte more than there is memory for: file %v, %v", first.file, err)
	}
	if !memory.TryAcquire(3 * chunkSize) {
		t.Error("what went to a file still takes memory")
	}
}
