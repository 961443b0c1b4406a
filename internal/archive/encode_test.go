package archive

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestEncode: compressed or kept as it is, in memory or partly in a file, a
// payload is what any decompressor reads as the entry.
func TestEncode(t *testing.T) {
	t.Parallel()
	text := bytes.Repeat([]byte("The quick brown fox jumps over the lazy dog.\r\n"), 9_000)
	for _, busy := range []bool{false, true} {
		for _, body := range [][]byte{nil, text[:100], text, randomBytes(1, chunkSize), randomBytes(2, frameSize), randomBytes(3, 3*frameSize+1), randomBytes(4, payloadShare+frameSize)} {
			t.Run(fmt.Sprintf("%d bytes, busy %v", len(body), busy), func(t *testing.T) {
				t.Parallel()
				checkEncode(t, testEnvelope(1), body, busy)
			})
		}
	}
}

// TestEncodeLargeEnvelope: a raw block holds no more than 128 KiB.
func TestEncodeLargeEnvelope(t *testing.T) {
	t.Parallel()
	for _, recipients := range []int{2_000, 10_000} {
		e := testEnvelope(1)
		e.Recipients = slices.Repeat([]string{"somebody@example.test"}, recipients)
		head, err := entryHead(nil, e, 100)
		if err != nil || (len(head) > maxBlock) != (recipients > 2_000) {
			t.Fatalf("%d bytes for %d recipients: %v", len(head), recipients, err)
		}
		checkEncode(t, e, randomBytes(1, 100_000), true)
	}
}

func checkEncode(t *testing.T, e *Envelope, body []byte, busy bool) {
	c, err := newCompressor(2, compressRate)
	if err != nil {
		t.Fatal(err)
	}
	if busy {
		c.rate.SetBurst(0)
	}
	p, h, err := c.encode(t.Context(), e, spoolOf(t, body), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "payload")
	if err := os.WriteFile(file, bytesOf(t, p), 0o600); err != nil {
		t.Fatal(err)
	}
	packed, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, err := entryHead(nil, e, int64(len(body)))
	if err != nil {
		t.Fatal(err)
	}
	want := append(append(head, body...), zeros[:-len(body)&(tarBlock-1)]...)
	d, err := zstd.NewReader(bytes.NewReader(packed), zstd.WithDecoderMaxWindow(frameSize))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if got, err := io.ReadAll(d); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes decompress to %d, want %d: %v", len(packed), len(got), len(want), err)
	}
	if int64(len(packed)) != h.payload || int64(len(want)) != h.plain || crcOf(packed) != h.crc {
		t.Errorf("header %+v for %d bytes of %d", h, len(packed), len(want))
	}
	if busy != (len(packed) > len(want)) && len(body) < chunkSize && len(body) > 0 {
		t.Errorf("%d bytes became %d", len(want), len(packed))
	}
	if out, err := exec.Command("zstd", "-tq", file).CombinedOutput(); err != nil {
		t.Errorf("zstd -t: %v %s", err, out)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if !c.memory.TryAcquire(payloadMemory) {
		t.Error("a closed payload keeps memory")
	}
}

// bytesOf reads a payload as a segment would write it.
func bytesOf(t *testing.T, p payload) []byte {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := newGather(f, 0)
	if err := errors.Join(p.writeTo(out, make([]byte, headerSize)), out.flush()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return b[headerSize:]
}

// TestCompressRate: what comes faster than it may be compressed is kept as it
// came, and is counted.
func TestCompressRate(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	dir := t.TempDir()
	w := openTest(t, dir, Options{Compress: 1, Metrics: reg}) // a byte a second
	body := bytes.Repeat([]byte("The quick brown fox jumps over the lazy dog.\r\n"), compressBurst*2/5/46)
	for i := range 3 {
		ref := appendTest(t, w, testEnvelope(i), body)
		if kept, want := ref.Length > int64(len(body)), (i+1)*len(body) > compressBurst; kept != want {
			t.Errorf("message %d has %d bytes in the segment", i, ref.Length)
		}
	}
	if got := testutil.ToFloat64(w.metrics.stored); got != 1 {
		t.Errorf("%v are counted", got)
	}
	got, damaged := readAll(t, dir)
	if len(got) != 3 || damaged != 0 {
		t.Fatalf("%d records, %d bytes damaged", len(got), damaged)
	}
	for _, g := range got {
		if g.Body != string(body) {
			t.Errorf("message %s changed", g.Envelope.ID)
		}
	}
}
