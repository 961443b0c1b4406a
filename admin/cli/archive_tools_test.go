package cli

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"strconv"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rogpeppe/go-internal/testscript"

	"understudy/internal/archive"
	"understudy/internal/archive/ship"
	"understudy/internal/config"
	"understudy/internal/store"
	"understudy/worker/index"
)

// TestArchiveTools runs testdata/archive/*.txtar with the worker's indexer.
func TestArchiveTools(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{Dir: "testdata/archive", Setup: setup, RequireExplicitExec: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"sql": sqlCmd, "admin": adminCmd, "indexed": indexedCmd, "dropped": droppedCmd,
			"crlf": crlfCmd, "flip": flipCmd}})
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
		run, stop := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() { defer close(ended); x.Run(run) }()
		ts.Defer(func() { stop(); <-ended })
		return func() bool {
			done, err := caughtUp(ctx, ts.Getenv("ARCHIVE"), s)
			ts.Check(err)
			if done {
				stop()
				<-ended
			}
			return done
		}
	})
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
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
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
