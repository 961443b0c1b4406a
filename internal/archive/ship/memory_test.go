package ship_test

import (
	"io"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"understudy/internal/archive/ship"
	"understudy/internal/archive/shiptest"
)

// TestMemory: a segment of 200 MiB goes to the bucket and comes back in no
// more memory than the parts of an upload need (four of 8 MiB, and what the
// client copies). Not parallel: it looks at the memory of the process.
func TestMemory(t *testing.T) {
	const size, most = 200 << 20, 96 << 20
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(64 << 20))
	r := newRig(t, shiptest.Start(t).Bucket(t), 1000)
	peak := func(work func() error) {
		t.Helper()
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		before, highest := m.HeapAlloc, m.HeapAlloc
		done := make(chan error, 1)
		go func() { done <- work() }()
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case err := <-done:
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("the heap grew by %d MiB at most", (highest-before)>>20)
				if highest > before+most {
					t.Errorf("the heap grew from %d to %d bytes", before, highest)
				}
				return
			case <-tick.C:
				runtime.ReadMemStats(&m)
				highest = max(highest, m.HeapAlloc)
			}
		}
	}
	var got ship.Sum
	peak(func() error { return r.bucket.Put(t.Context(), r.segment.Name, source(size), size) })
	sent, err := ship.SumOf(source(size))
	if err != nil {
		t.Fatal(err)
	}
	peak(func() (err error) { got, err = r.bucket.Sum(t.Context(), r.segment.Name, size); return err })
	if got != sent || got.Size != size {
		t.Errorf("%d bytes came back of %d, or others", got.Size, size)
	}
}

// source is size random bytes.
func source(size int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{7}), size)
}
