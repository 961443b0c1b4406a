package ship

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"understudy/internal/archive"
	"understudy/internal/archive/ship"
	"understudy/internal/archive/shiptest"
	"understudy/internal/store"
	"understudy/internal/wait"
)

// shipForever ships what the environment says until it is killed.
func shipForever() {
	err := func() error {
		cfg, err := pgxpool.ParseConfig(os.Getenv("UNDERSTUDY_SHIP_DATABASE"))
		if err != nil {
			return err
		}
		db, err := store.New(context.Background(), cfg)
		if err != nil {
			return err
		}
		bucket, err := ship.NewBucket(ship.Config{URL: os.Getenv("UNDERSTUDY_SHIP_URL"), CredentialsFile: os.Getenv("UNDERSTUDY_SHIP_CREDENTIALS")})
		if err != nil {
			return err
		}
		s := New(Config{Dir: os.Getenv("UNDERSTUDY_SHIP_DIR"), Bucket: bucket, Store: db, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
		for {
			if err := s.once(context.Background()); err != nil {
				return err
			}
			fmt.Println("a run")
		}
	}()
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// TestKilled kills the shipping process again and again, at any place: at
// each moment every message is readable; in the end all is in the bucket,
// each segment once, and nothing is left behind.
func TestKilled(t *testing.T) {
	t.Parallel()
	shiptest.Each(t, func(t *testing.T, s *shiptest.Store) {
		r := newRig(t, s)
		const segments, messages = 3, 4
		rounds, unfinished := 0, 0
		for ; rounds < 8 || unfinished == 0 && rounds < 100; rounds++ {
			r.add(t, segments, messages)
			r.index(t)
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "UNDERSTUDY_SHIP_DIR="+r.dir, "UNDERSTUDY_SHIP_DATABASE="+r.url,
				"UNDERSTUDY_SHIP_URL="+s.Config.URL, "UNDERSTUDY_SHIP_CREDENTIALS="+s.Config.CredentialsFile)
			cmd.Stdout, cmd.Stderr = io.Discard, t.Output()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() }) // if the test ends before it
			begun := r.begun(t)
			wait.True(t, "an upload", func() bool { return r.begun(t) > begun })
			<-time.After(rand.N(10 * time.Millisecond << (rounds % 6))) // the moment is what varies
			cmd.Process.Kill()                                          //nolint:errcheck // it lives
			cmd.Wait()                                                  //nolint:errcheck // killed
			r.readable(t)
			if len(r.local(t)) > 0 {
				unfinished++
			}
		}
		w := r.shipper(t)
		work(t, w)
		r.counts(t, 0, rounds*segments, rounds*segments)
		r.readable(t)
		t.Logf("%d messages in %d segments, %d kills, %d of them with work left", len(r.refs), rounds*segments, rounds, unfinished)
		if unfinished == 0 {
			t.Error("never killed in the middle")
		}
		records := 0
		for _, seg := range r.shipped(t) {
			records += r.records(t, seg.Name)
		}
		if records != rounds*segments*messages {
			t.Errorf("%d records in the bucket, want %d", records, rounds*segments*messages)
		}
	})
}

func (r *rig) begun(t *testing.T) (n int) {
	t.Helper()
	if err := r.store.Pool.QueryRow(t.Context(), `SELECT count(*) FROM segment_shipping`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// records counts those of a segment, none damaged.
func (r *rig) records(t *testing.T, name string) (n int) {
	t.Helper()
	s, err := r.reader.OpenSegment(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for {
		if _, err := s.Next(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if s.Damaged() != 0 {
		t.Errorf("%s: %d bytes are damaged", name, s.Damaged())
	}
	return n
}

func zeros(n int64) io.Reader { return bytes.NewReader(make([]byte, n)) }

// spoilFile changes one byte in the middle.
func spoilFile(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt([]byte{b[len(b)/2] ^ 1}, int64(len(b)/2))
	return err
}

func mustKey(t *testing.T, name string) string {
	t.Helper()
	k, err := archive.SealedName(name)
	if err != nil {
		t.Fatal(err)
	}
	return k
}
