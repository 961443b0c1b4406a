// Command indexbench measures how many messages a second one core indexes. It
// archives generated messages in real segments and has the indexer read them
// into a real PostgreSQL, which it starts (fsync on); both are kept on one core
// where taskset is installed. Figures are of the time that this core worked for
// them, which other work on the machine hardly changes, and by the clock.
//
//	go run ./worker/index/indexbench -json
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"runtime/pprof"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"understudy/internal/bench"
	"understudy/internal/bench/mail"
	"understudy/internal/pgtest"
	"understudy/internal/store"
	"understudy/worker/index"
)

const pinned = "INDEXBENCH_PINNED"

type options struct {
	messages      int // of 5 KB; a tenth as many of 100 KB
	json          bool
	core, profile string
}

func main() {
	var o options
	flag.IntVar(&o.messages, "messages", 20_000, "messages of 5 KB; a tenth as many of 100 KB")
	flag.BoolVar(&o.json, "json", false, "print JSON, an object a line")
	flag.StringVar(&o.core, "core", "0", "core to keep to")
	flag.StringVar(&o.profile, "profile", "", "write a CPU profile of the indexer to this file")
	flag.Parse()
	if o.messages < 100 || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	pin(o.core)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "indexbench:", err)
		os.Exit(1)
	}
}

// pin runs the program again on one core, with all that it starts.
func pin(core string) {
	taskset, err := exec.LookPath("taskset")
	if err != nil || os.Getenv(pinned) != "" {
		return
	}
	if self, err := os.Executable(); err == nil {
		args := append([]string{"taskset", "-c", core, self}, os.Args[1:]...)
		err = syscall.Exec(taskset, args, append(os.Environ(), pinned+"="+core))
		fmt.Fprintln(os.Stderr, "indexbench: not kept to one core:", err)
	}
}

func run(ctx context.Context, o options) error {
	cluster, err := pgtest.Start()
	if err != nil {
		return err
	}
	defer cluster.Remove()
	// Take back the settings that make tests quick.
	err = execute(ctx, cluster.URL("postgres", "postgres"), "ALTER SYSTEM SET fsync = on", "ALTER SYSTEM SET full_page_writes = on", "SELECT pg_reload_conf()")
	if err != nil {
		return err
	}
	if o.profile != "" {
		f, err := os.Create(o.profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	enc := json.NewEncoder(os.Stdout)
	for _, c := range []struct {
		name        string
		size, count int
		goal        float64
	}{{"5 KB", 5_000, o.messages, 1000}, {"100 KB", 100_000, o.messages / 10, 200}} {
		results, err := measure(ctx, cluster, c.name, c.size, c.count, c.goal)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		for _, r := range results {
			if o.json {
				err = enc.Encode(r)
			} else {
				fmt.Printf("%-8s %-46s %10.2f %s %s\n", r.Case, r.Metric, r.Value, r.Unit, r.Goal)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// measure archives messages of a size, and indexes them.
func measure(ctx context.Context, cluster *pgtest.Cluster, name string, size, count int, goal float64) ([]bench.Result, error) {
	dir, err := os.MkdirTemp("", "indexbench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	g := mail.New(1)
	left := count
	stored, err := mail.Archive(ctx, dir, func() []byte {
		if left--; left < 0 {
			return nil
		}
		return g.Text(size)
	})
	if err != nil {
		return nil, err
	}
	s, err := database(ctx, cluster, fmt.Sprintf("bench_%d", size))
	if err != nil {
		return nil, err
	}
	defer s.Close()
	x := &index.Indexer{Dir: dir, Store: s, Interval: 100 * time.Millisecond, Log: slog.New(slog.DiscardHandler), Metrics: index.NewMetrics(prometheus.NewRegistry())}
	before, err := used(cluster)
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	if err := x.CatchUp(ctx); err != nil {
		return nil, err
	}
	took := time.Since(begin)
	after, err := used(cluster)
	if err != nil {
		return nil, err
	}
	n, bytes, err := indexSize(ctx, s)
	if err == nil && n != stored.Messages {
		err = fmt.Errorf("%d of %d messages are indexed", n, stored.Messages)
	}
	if err != nil {
		return nil, err
	}
	if _, err := s.Pool.Exec(ctx, `SELECT compact_index_day(day) FROM index_day`); err != nil { // as when the day is over
		return nil, err
	}
	tidied, err := used(cluster)
	if err != nil {
		return nil, err
	}
	_, tidy, err := indexSize(ctx, s)
	if err != nil {
		return nil, err
	}
	worker, server := after.worker-before.worker, after.server-before.server
	rate := func(d time.Duration) float64 { return float64(n) / d.Seconds() }
	result := func(metric string, value float64, unit string) bench.Result {
		return bench.Result{Bench: "indexing", Case: name, Metric: metric, Value: value, Unit: unit}
	}
	return []bench.Result{
		result("messages/s of one core, worker and PostgreSQL", rate(worker+server), "").AtLeast(goal),
		result("messages/s by the clock", rate(took), ""),
		result("worker, CPU of a message", worker.Seconds()/float64(n)*1000, "ms"),
		result("PostgreSQL, CPU of a message", server.Seconds()/float64(n)*1000, "ms"),
		result("index, bytes for a byte of mail, at first", float64(bytes)/float64(stored.Bytes), ""),
		result("index, bytes for a byte of mail, when its day is over", float64(tidy)/float64(stored.Bytes), ""),
		result("PostgreSQL, CPU of a message when its day is over", (tidied.server-after.server).Seconds()/float64(n)*1000, "ms"),
	}, nil
}

// database makes an empty index.
func database(ctx context.Context, cluster *pgtest.Cluster, name string) (*store.Store, error) {
	if err := execute(ctx, cluster.URL("postgres", "postgres"), "CREATE DATABASE "+name+" OWNER understudy"); err != nil {
		return nil, err
	}
	if err := execute(ctx, cluster.URL("postgres", name), "ALTER SCHEMA public OWNER TO understudy"); err != nil {
		return nil, err
	}
	owner, err := pgxpool.ParseConfig(cluster.URL("understudy", name))
	if err != nil {
		return nil, err
	}
	if _, err := store.Migrate(ctx, owner); err != nil {
		return nil, err
	}
	cfg, err := pgxpool.ParseConfig(cluster.URL("understudy_app", name))
	if err != nil {
		return nil, err
	}
	return store.New(ctx, cfg)
}

func execute(ctx context.Context, url string, statements ...string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

// indexSize is how many messages the index has and what it takes on disk.
func indexSize(ctx context.Context, s *store.Store) (messages int, bytes int64, err error) {
	err = s.Pool.QueryRow(ctx, `SELECT (SELECT count(*) FROM message), sum(pg_total_relation_size(oid))::bigint FROM pg_class
		WHERE relkind = 'r' AND relname ~ '^(message|message_mailbox|posting)_'`).Scan(&messages, &bytes)
	return messages, bytes, err
}
