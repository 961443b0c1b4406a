package drain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"understudy/internal/delivery"
	"understudy/internal/directory"
	"understudy/internal/portal"
	"understudy/internal/store"
	"understudy/internal/wait"
)

const childVariable = "UNDERSTUDY_DRAIN_TEST_CHILD"

// childConfig is what a child process is told.
type childConfig struct {
	Gateway     string
	Database    string
	Portal      portal.Config
	Concurrency int
	Sent        int // it kills itself when it has recorded so many as sent; 0: never
}

// deadly is a store that kills the process in the middle of a drain.
type deadly struct {
	*store.Store
	left atomic.Int64
}

func (d *deadly) MarkSent(ctx context.Context, k store.LedgerKey, reply string) error {
	err := d.Store.MarkSent(ctx, k, reply)
	if err == nil && d.left.Add(-1) == 0 {
		syscall.Kill(os.Getpid(), syscall.SIGKILL) //nolint:errcheck // it is itself
		select {}
	}
	return err
}

// child drains example.test again and again, until it is killed or, with Sent,
// nothing is left.
func child() {
	var c childConfig
	if err := json.Unmarshal([]byte(os.Getenv(childVariable)), &c); err != nil {
		panic(err)
	}
	ctx := context.Background()
	cfg, err := pgxpool.ParseConfig(c.Database)
	if err != nil {
		panic(err)
	}
	s, err := store.New(ctx, cfg)
	if err != nil {
		panic(err)
	}
	dir := directory.New()
	f := directory.Follower{Directory: dir, Config: cfg.ConnConfig, Log: slog.New(slog.DiscardHandler)}
	go f.Run(ctx) //nolint:errcheck // only about its file, which it has not
	ledger := &deadly{Store: s}
	ledger.left.Store(int64(c.Sent))
	w := New(Config{Gateway: c.Gateway, Directory: dir, Ledger: ledger, Portal: portal.New(c.Portal), Delivery: &delivery.Client{},
		Concurrency: c.Concurrency, Timeout: time.Minute, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	for {
		changed := dir.Changed()
		d, ok := dir.Domain(domain)
		if !ok {
			<-changed
			continue
		}
		w.lookAtAll(map[*directory.Domain]look{d: {at: time.Now()}})
		sum, err := w.Run(ctx, domain) // the test looks at what arrives
		if c.Sent > 0 && err == nil && sum == (Summary{Outcome: Complete}) {
			return
		}
	}
}

func (c childConfig) command(t *testing.T) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+string(text))
	return cmd
}

// TestKill kills the draining process again and again: all arrives, and no
// more twice than the crashes explain.
func TestKill(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const total = 240
	for n := range total {
		w.portal.Deliver("s@x.test", []string{ana, bruno, carla}[n%3], message(n))
	}
	config := childConfig{Gateway: "mx1", Database: w.url, Portal: w.portal.Config, Concurrency: 3}
	crashes, uncertain := 0, 0
	for began := time.Now(); w.remaining() > 0; {
		if time.Since(began) > 10*time.Minute {
			t.Fatalf("%d remain after %d crashes", w.remaining(), crashes)
		}
		before := w.remaining()
		cmd := config.command(t)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() }) // if the test ends before it
		// Die after a few messages, at any point of one.
		few := 1 + rand.IntN(12)
		w.await(func() bool { n := w.remaining(); return n == 0 || before-n >= few })
		time.AfterFunc(time.Duration(rand.IntN(8000))*time.Microsecond, func() { cmd.Process.Kill() }) //nolint:errcheck // it runs
		cmd.Wait()                                                                                     //nolint:errcheck // killed
		crashes++
		uncertain += w.count(`SELECT count(*) FROM drain_ledger WHERE state = 'sending' AND reply = ''`)
	}
	w.run(Complete) // what was sent but not yet removed
	duplicates := 0
	copies := map[string]int{}
	w.await(func() bool { return w.primaryIdle() })
	for _, m := range []string{ana, bruno, carla} {
		if left := w.left(m); left != 0 {
			t.Errorf("%d left in %s", left, m)
		}
		for _, stored := range w.primary.Mail(m) {
			copies[subject(stored)]++
			if copies[subject(stored)] > 1 {
				duplicates++
			}
		}
	}
	for n := range total {
		if copies[fmt.Sprint(n)] == 0 {
			t.Errorf("message %d is lost", n)
		}
	}
	if duplicates > uncertain || len(copies) != total {
		t.Errorf("%d duplicates, only %d messages were uncertain; %d of %d messages", duplicates, uncertain, len(copies), total)
	}
	w.counts(store.LedgerCounts{Done: total})
	t.Logf("%d messages, %d crashes, %d uncertain, %d duplicates", total, crashes, uncertain, duplicates)
}

// remaining is how many messages the ledger does not show as returned.
func (w *world) remaining() int {
	w.t.Helper()
	return 240 - w.count(`SELECT count(*) FROM drain_ledger WHERE state IN ('sent', 'done')`)
}

func (w *world) count(sql string) (n int) {
	w.t.Helper()
	if err := w.store.Pool.QueryRow(w.t.Context(), sql).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// primaryIdle tells whether the primary has delivered all that it accepted.
func (w *world) primaryIdle() bool {
	out, err := exec.Command("postqueue", "-c", w.primary.Dir, "-j").Output()
	return err == nil && len(out) == 0
}

// await polls a condition, often: a process is to be killed right then.
func (w *world) await(done func() bool) {
	w.t.Helper()
	err := wait.For(context.Background(), 3*time.Minute, 2*time.Millisecond, func() error {
		if !done() {
			return errors.New("the condition does not hold")
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
}
