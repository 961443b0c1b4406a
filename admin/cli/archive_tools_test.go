package cli

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rogpeppe/go-internal/testscript"

	"understudy/internal/archive"
	"understudy/internal/archive/ship"
	"understudy/internal/config"
	"understudy/internal/store"
	"understudy/worker/expire"
	"understudy/worker/index"
	shipjob "understudy/worker/ship"
)

// TestArchiveTools runs testdata/archive/*.txtar with the worker's indexer.
func TestArchiveTools(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{Dir: "testdata/archive", Setup: setup, RequireExplicitExec: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"sql": sqlCmd, "admin": adminCmd, "indexed": indexedCmd, "dropped": droppedCmd,
			"crlf": crlfCmd, "flip": flipCmd, "shipped": shippedCmd, "expired": expiredCmd, "received": receivedCmd}})
}

// indexedCmd runs the worker's indexer until the index has the whole log. An
// argument is its file of identities.
func indexedCmd(ts *testscript.TestScript, _ bool, args []string) {
	var keys []age.Identity
	if len(args) > 0 {
		var err error
		keys, err = archive.LoadIdentities(ts.MkAbs(args[0]))
		ts.Check(err)
	}
	within(ts, "the indexer to catch up", func(ctx context.Context, s *store.Store) func() bool {
		x := &index.Indexer{Source: ship.Local{Dir: ts.Getenv("ARCHIVE"), Identities: keys}, Store: s, Interval: 10 * time.Millisecond, Log: slog.New(slog.DiscardHandler),
			Metrics: index.NewMetrics(prometheus.NewRegistry())}
		return during(ctx, ts, x.Run, func() bool {
			done, err := caughtUp(ctx, ts.Getenv("ARCHIVE"), s)
			ts.Check(err)
			return done
		})
	})
}

// shippedCmd runs the worker's shipping job to the bucket in the directory
// "bucket" until it has all; with "free" until nothing is left here.
func shippedCmd(ts *testscript.TestScript, _ bool, args []string) {
	bucket, err := ship.NewBucket(ship.Config{URL: "file://" + ts.MkAbs("bucket")})
	ts.Check(err)
	keep := time.Hour
	if len(args) > 0 {
		keep = 0
	}
	within(ts, "segments to be shipped", func(ctx context.Context, s *store.Store) func() bool {
		job := shipjob.New(shipjob.Config{Dir: ts.Getenv("ARCHIVE"), Bucket: bucket, Store: s, KeepLocal: keep,
			Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
		return during(ctx, ts, job.Run, func() bool {
			local, err := archive.Segments(ts.Getenv("ARCHIVE"))
			ts.Check(err)
			known, err := s.ShippedSegments(ctx)
			ts.Check(err)
			for _, seg := range local {
				if _, ok := known[seg.Name]; !ok {
					return false
				}
			}
			return keep > 0 || len(local) == 0
		})
	})
}

// expiredCmd runs the worker's expiry until so many segments are left here.
func expiredCmd(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	within(ts, "segments to expire", func(ctx context.Context, s *store.Store) func() bool {
		job := expire.New(expire.Config{Dir: ts.Getenv("ARCHIVE"), Store: s, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
		return during(ctx, ts, job.Run, func() bool {
			local, err := archive.Segments(ts.Getenv("ARCHIVE"))
			ts.Check(err)
			return len(local) == want
		})
	})
}

// during runs a job until done is true.
func during(ctx context.Context, ts *testscript.TestScript, run func(context.Context), done func() bool) func() bool {
	running, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); run(running) }()
	ts.Defer(func() { stop(); <-ended })
	return func() bool {
		if !done() {
			return false
		}
		stop()
		<-ended
		return true
	}
}

// droppedCmd waits until a reindex has dropped the index.
func droppedCmd(ts *testscript.TestScript, _ bool, _ []string) {
	within(ts, "the index to be dropped", func(ctx context.Context, s *store.Store) func() bool {
		return func() bool {
			at, err := s.SegmentOffsets(ctx)
			ts.Check(err)
			return len(at) == 0
		}
	})
}

// within polls what check returns, with the script's database.
func within(ts *testscript.TestScript, what string, check func(context.Context, *store.Store) func() bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	pool, err := (&config.Database{URL: ts.Getenv("DATABASE")}).PoolConfig()
	ts.Check(err)
	s, err := store.New(ctx, pool)
	ts.Check(err)
	defer s.Close()
	done := check(ctx, s)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			ts.Fatalf("waited in vain for %s", what)
		case <-tick.C:
		}
	}
}

func caughtUp(ctx context.Context, dir string, s *store.Store) (bool, error) {
	segments, err := archive.Segments(dir)
	if err != nil {
		return false, err
	}
	at, err := s.SegmentOffsets(ctx)
	if err != nil {
		return false, err
	}
	for _, seg := range segments {
		if at[seg.Name].Indexed < seg.Size || !seg.Open && !at[seg.Name].Sealed {
			return false, nil
		}
	}
	return true, nil
}

// crlfCmd gives files CRLF line ends.
func crlfCmd(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		b := bytes.ReplaceAll([]byte(ts.ReadFile(name)), []byte("\n"), []byte("\r\n"))
		ts.Check(os.WriteFile(ts.MkAbs(name), b, 0o600))
	}
}

// flipCmd damages the byte at an offset of the only segment.
func flipCmd(ts *testscript.TestScript, _ bool, args []string) {
	segments, err := archive.Segments(ts.Getenv("ARCHIVE"))
	ts.Check(err)
	if len(segments) != 1 {
		ts.Fatalf("%d segments", len(segments))
	}
	at, err := strconv.ParseInt(args[0], 10, 64)
	ts.Check(err)
	f, err := os.OpenFile(segments[0].Path, os.O_RDWR, 0)
	ts.Check(err)
	defer f.Close()
	b := make([]byte, 1)
	_, err = f.ReadAt(b, at)
	ts.Check(err)
	b[0] ^= 0xff
	_, err = f.WriteAt(b, at)
	ts.Check(err)
}

// receivedCmd archives a file as from a sender to recipients (with commas), in
// a segment of its own. Recipients that end with .test
// are mailboxes.
func receivedCmd(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	w, err := archive.OpenWriter(ts.Getenv("ARCHIVE"), archive.Options{})
	ts.Check(err)
	spool := archive.NewSpool(ts.Getenv("WORK"), 64<<20)
	defer spool.Close()
	_, err = spool.Write([]byte(ts.ReadFile(args[0])))
	ts.Check(err)
	e := &archive.Envelope{ID: uuid.Must(uuid.NewV7()), Received: time.Now().UTC(), Direction: archive.Inbound, Sender: args[1],
		Recipients: strings.Split(args[2], ","), Client: "192.0.2.99", Helo: "client.internet.org", SASLUser: "login-name"}
	for _, a := range e.Recipients {
		if strings.HasSuffix(a, ".test") {
			e.Mailboxes = append(e.Mailboxes, a)
		}
	}
	if strings.HasSuffix(e.Sender, ".test") {
		e.Direction, e.Route = archive.Outbound, []string{"primary", "internet"}
	}
	_, err = w.Append(ctx, e, spool)
	ts.Check(err)
	ts.Check(w.Close())
}
