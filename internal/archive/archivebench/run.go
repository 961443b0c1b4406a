package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"understudy/internal/archive"
)

// messages are what the writers append: each its own, again and again.
type messages struct {
	size   int
	texts  [7][]byte
	spools []*archive.Spool
}

// run is one pair: the archive, then the loops; and what group commit costs by
// itself.
type run struct {
	messages, syncs      int
	stored               int64 // bytes that the archive wrote
	archive, loop, plain spent
	group, groupLoop     spent         // a group commit that only writes, and the loop of its batches
	longest              time.Duration // append
}

// spent is what something took.
type spent struct{ wall, cpu time.Duration }

// stopwatch begins to measure; what it returns ends.
func stopwatch() func() spent {
	begin, cpu := time.Now(), processTime()
	return func() spent { return spent{time.Since(begin), processTime() - cpu} }
}

// processTime is the CPU time of this process, system calls included.
func processTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic("getrusage of oneself: " + err.Error())
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func newMessages(dir string, writers, size int) (*messages, error) {
	m := &messages{size: size}
	for i := range m.texts {
		m.texts[i] = message(i, size)
	}
	for i := range writers {
		s := archive.NewSpool(dir, 1<<30)
		m.spools = append(m.spools, s)
		if _, err := s.Write(m.texts[i%len(m.texts)]); err != nil {
			m.close()
			return nil, err
		}
	}
	return m, nil
}

func (m *messages) close() {
	for _, s := range m.spools {
		s.Close()
	}
}

// message makes mail of exactly n bytes: words, and beyond 5 KB an attachment
// in base64, which is most of a large message, half of it noise.
func message(seed, n int) []byte {
	rng := rand.New(rand.NewPCG(uint64(seed), 1))
	words := rand.NewZipf(rng, 1.1, 4, 20_000)
	var b strings.Builder
	fmt.Fprintf(&b, "From: a%d@example.org\r\nTo: ana@example.test\r\nSubject: number %d\r\nMIME-Version: 1.0\r\n\r\n", seed, seed)
	for b.Len() < min(n, 5000) {
		for range 10 {
			fmt.Fprintf(&b, "w%x ", words.Uint64()*2654435761%1e7)
		}
		b.WriteString("\r\n")
	}
	line := make([]byte, 57)
	for b.Len() < n {
		for i := range line {
			line[i] = byte(rng.Uint32())
			if i%2 == 0 {
				line[i] &= 3
			}
		}
		b.WriteString(base64.StdEncoding.EncodeToString(line) + "\r\n")
	}
	return []byte(b.String()[:n])
}

// run measures one pair on the disk of dir.
func (m *messages) run(dir string, length time.Duration) (r run, err error) {
	dir, err = os.MkdirTemp(dir, "archivebench-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	var total int64
	var batches int
	for _, half := range []func() error{
		func() error { return m.archive(&r, filepath.Join(dir, "archive"), length) },
		func() (err error) { r.loop, err = loop(filepath.Join(dir, "stored"), r.syncs, r.stored); return err },
		func() (err error) {
			r.plain, err = loop(filepath.Join(dir, "plain"), r.syncs, int64(r.messages)*int64(m.size))
			return err
		},
		func() (err error) {
			r.group, batches, total, err = m.group(filepath.Join(dir, "group"), length)
			return err
		},
		func() (err error) { r.groupLoop, err = loop(filepath.Join(dir, "batches"), batches, total); return err },
	} {
		if err := onOldMemory(dir, half); err != nil {
			return r, err
		}
	}
	return r, nil
}

// onOldMemory runs what writes files in dir, and drops their pages soon after
// they were written. So all that is measured finds a little memory free that
// was in use a moment ago. Memory that the host of a virtual machine has taken
// back, and has to find again, makes a write several times as slow: for whom
// would be chance.
func onOldMemory(dir string, write func() error) error {
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		var err error
		for ended := false; !ended && err == nil; {
			select {
			case <-stop:
				ended = true
			case <-time.After(forgetEvery):
			}
			err = forget(dir)
		}
		done <- err
	}()
	err := write()
	close(stop)
	return errors.Join(err, <-done)
}

const forgetEvery = 20 * time.Millisecond

// forget drops the pages of all files in dir.
func forget(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.Type().IsRegular() {
			return nil
		}
		var f *os.File
		if err == nil {
			f, err = os.Open(path)
		}
		if errors.Is(err, fs.ErrNotExist) { // a segment was sealed meanwhile
			return nil
		}
		if err != nil {
			return err
		}
		defer f.Close()
		return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	})
}

// archive appends for a while, and at least one message a writer.
func (m *messages) archive(r *run, dir string, length time.Duration) error {
	reg := prometheus.NewRegistry()
	w, err := archive.OpenWriter(dir, archive.Options{Metrics: reg, SpoolDir: filepath.Dir(dir), MaxBytes: 4 << 30})
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var all error
	begin, took := time.Now(), stopwatch()
	var wg sync.WaitGroup
	for _, s := range m.spools {
		wg.Go(func() {
			n, stored, longest := 0, int64(0), time.Duration(0)
			for n == 0 || time.Since(begin) < length {
				start := time.Now()
				ref, err := w.Append(context.Background(), &archive.Envelope{ID: uuid.Must(uuid.NewV7()), Received: start.UTC(), Direction: archive.Inbound,
					Sender: "a@example.org", Recipients: []string{"ana@example.test"}, Mailboxes: []string{"ana@example.test"}, Client: "192.0.2.1"}, s)
				longest = max(longest, time.Since(start))
				if err != nil {
					mu.Lock()
					all = errors.Join(all, err)
					mu.Unlock()
					return
				}
				n, stored = n+1, stored+ref.Length
			}
			mu.Lock()
			defer mu.Unlock()
			r.messages, r.stored, r.longest = r.messages+n, r.stored+stored, max(r.longest, longest)
		})
	}
	wg.Wait()
	r.archive = took()
	if r.syncs, err = syncs(reg); err != nil {
		return err
	}
	return errors.Join(all, w.Close())
}

// syncs is how many batches were written.
func syncs(reg *prometheus.Registry) (int, error) {
	families, err := reg.Gather()
	if err != nil {
		return 0, err
	}
	for _, f := range families {
		if f.GetName() == "understudy_archive_batch_messages" {
			return int(f.GetMetric()[0].GetHistogram().GetSampleCount()), nil
		}
	}
	return 0, errors.New("the archive counts no batches")
}

// loop writes total bytes in so many batches, each followed by fdatasync.
func loop(path string, batches int, total int64) (spent, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return spent{}, err
	}
	defer f.Close()
	chunk := message(1, 256<<10)
	took := stopwatch()
	for i := range int64(batches) {
		for left := total*(i+1)/int64(batches) - total*i/int64(batches); left > 0; {
			n, err := f.Write(chunk[:min(left, int64(len(chunk)))])
			if err != nil {
				return spent{}, err
			}
			left -= int64(n)
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return spent{}, err
		}
	}
	return took(), nil
}
