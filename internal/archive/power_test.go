package archive

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"understudy/internal/wait"
)

const diskSector = 512 // what a disk writes whole or not at all

// disk knows what of each segment is durable: what the last sync that
// succeeded found in the file.
type disk struct {
	mu      sync.Mutex
	durable map[string][]byte // by segment
	fail    func() error      // in place of a sync
}

// sync is the writer's.
func (d *disk) sync(f *os.File) error {
	if d.fail != nil {
		if err := d.fail(); err != nil {
			return err
		}
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	b := make([]byte, info.Size())
	if _, err := f.ReadAt(b, 0); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.durable[filepath.Base(f.Name())] = b
	return nil
}

// afterPowerLoss makes the archive as a disk may hold it after the power went:
// of each segment what was synced, and of what was written since each sector
// as it was, zero, or garbage; of each directory the names that it was synced
// with; marks as they are, torn, or gone.
func (d *disk) afterPowerLoss(t *testing.T, from string, rng *rand.Rand) string {
	t.Helper()
	to := t.TempDir()
	if err := os.MkdirAll(filepath.Join(to, openDir), 0o750); err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	durable := map[string][]byte{}
	for name, b := range d.durable {
		durable[name] = b
	}
	d.mu.Unlock()
	segments, err := Segments(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range segments {
		synced := durable[s.Name]
		now, err := os.ReadFile(openPath(from, s.Name))
		if err != nil {
			now, _ = os.ReadFile(sealedPath(from, s.Name))
		}
		b := append([]byte{}, synced...)
		for at := len(synced); at < len(now); {
			next := min((at/diskSector+1)*diskSector, len(now))
			part := append([]byte{}, now[at:next]...)
			switch rng.IntN(4) {
			case 0:
				clear(part)
			case 1:
				for i := range part {
					part[i] = byte(rng.Uint32())
				}
			}
			if b = append(b, part...); rng.IntN(20) == 0 {
				break // the file's new length was not written
			}
			at = next
		}
		// Names are as their directories were when these were synced, or later.
		sealed := sealedPath(from, s.Name)
		inOpen := entrySynced(openPath(from, s.Name)) // first: it goes when the other one is synced
		if entrySynced(filepath.Dir(sealed)) && entrySynced(sealed) && (!inOpen || rng.IntN(2) == 0) {
			place(t, to, s.Name, b)
			continue
		}
		if !inOpen && rng.IntN(2) == 0 {
			continue // it never had a durable name
		}
		if err := os.WriteFile(openPath(to, s.Name), b, 0o640); err != nil {
			t.Fatal(err)
		}
		d.leaveMark(t, from, to, s.Name, len(synced), rng)
	}
	return to
}

// leaveMark: marks are not synced, so anything up to what was durable.
func (d *disk) leaveMark(t *testing.T, from, to, name string, durable int, rng *rand.Rand) {
	t.Helper()
	var b []byte
	switch rng.IntN(4) {
	case 0:
		return // lost
	case 1:
		b = marshalMark(int64(durable))
	case 2:
		b = marshalMark(0)
	case 3:
		b = marshalMark(int64(durable))[:rng.IntN(markSize)]
	}
	if err := os.WriteFile(markPath(to, name), b, 0o640); err != nil {
		t.Fatal(err)
	}
}

// TestPowerLoss takes the power away under load, again and again: whatever
// was acknowledged is readable, whole.
func TestPowerLoss(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 4))
	dir, d := t.TempDir(), &disk{durable: map[string][]byte{}}
	w := openTest(t, dir, Options{MaxBytes: 128 << 10, sync: d.sync})
	ctx, stop := context.WithCancel(t.Context())
	var mu sync.Mutex
	acknowledged := map[string]int{}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := 0; ctx.Err() == nil; j++ {
				e := testEnvelope(i)
				s := NewSpool(os.TempDir(), 1<<20)
				s.Write([]byte(strings.Repeat(e.ID.String(), j%150))) //nolint:errcheck // tells itself
				_, err := w.Append(context.Background(), e, s)
				s.Close()
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				acknowledged[e.ID.String()] = j % 150
				mu.Unlock()
			}
		})
	}
	checked := 0
	for round := range 5 {
		wait.True(t, "messages are acknowledged", func() bool { mu.Lock(); defer mu.Unlock(); return len(acknowledged) > 150*(round+1) })
		// First who was answered, then the disk: an answer needs the disk before.
		mu.Lock()
		answered := map[string]int{}
		for id, n := range acknowledged {
			answered[id] = n
		}
		mu.Unlock()
		lost := d.afterPowerLoss(t, dir, rng)
		after := openTest(t, lost, Options{})
		got, _ := readAll(t, lost)
		found := map[string]string{}
		for _, g := range got {
			found[g.Envelope.ID.String()] = g.Body
		}
		for id, n := range answered {
			checked++
			if body, ok := found[id]; !ok || body != strings.Repeat(id, n) {
				t.Fatalf("round %d: %s was acknowledged; in the archive: %v, %d bytes", round, id, ok, len(body))
			}
		}
		// The archive goes on.
		appendTest(t, after, testEnvelope(1), []byte("after the power came back"))
		after.Close()
	}
	stop()
	wg.Wait()
	if checked < 2000 {
		t.Errorf("%d acknowledged messages checked: too few", checked)
	}
}

// TestPowerLossWithFailingDisk is the same with every fifth sync failing, as
// it does when the kernel cannot write: what was refused may be gone, what was
// acknowledged may not.
func TestPowerLossWithFailingDisk(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(5, 6))
	var syncs atomic.Int64
	d := &disk{durable: map[string][]byte{}, fail: func() error {
		if syncs.Add(1)%5 == 0 {
			return errEIO
		}
		return nil
	}}
	dir := t.TempDir()
	w := openTest(t, dir, Options{sync: d.sync})
	acknowledged, refused := map[string]bool{}, 0
	for i := range 60 {
		e := testEnvelope(i)
		if _, err := w.Append(t.Context(), e, spoolOf(t, []byte(e.ID.String()))); err == nil {
			acknowledged[e.ID.String()] = true
		} else {
			refused++
		}
		if i%10 != 9 {
			continue
		}
		lost := d.afterPowerLoss(t, dir, rng)
		openTest(t, lost, Options{}).Close()
		got, _ := readAll(t, lost)
		n := 0
		for _, g := range got {
			if acknowledged[g.Envelope.ID.String()] {
				n++
			}
		}
		if n != len(acknowledged) {
			t.Fatalf("%d acknowledged, %d of them after the power loss", len(acknowledged), n)
		}
	}
	if refused != 12 || len(acknowledged) != 48 {
		t.Errorf("%d refused, %d acknowledged", refused, len(acknowledged))
	}
}
