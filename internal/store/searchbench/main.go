// Command searchbench measures how long searches take, and how that grows with
// the archive: it fills databases with generated messages of 90 days and times
// typical queries of users and admins, in turns.
//
//	go run ./internal/store/searchbench
//	go run ./internal/store/searchbench -messages 1000000 -postgres postgres://postgres@127.0.0.1:5432/postgres
//
// It starts a PostgreSQL of its own, or uses one that it may make databases
// in; with -keep they stay there, and those that are there are used as they are.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"understudy/internal/bench"
	"understudy/internal/pgtest"
)

type options struct {
	messages   []int
	rounds     int
	postgres   string
	json, keep bool
}

const (
	p95Goal   = 25  // ms, at a million messages
	ratioGoal = 1.5 // of p95 at a million to p95 at a hundred thousand
)

func main() {
	o := options{messages: []int{100_000, 1_000_000}}
	flag.Func("messages", "messages of each archive to measure (default 100000,1000000)", func(text string) error {
		o.messages = nil
		for part := range strings.SplitSeq(text, ",") {
			n, err := strconv.Atoi(part)
			if err != nil || n < 1000 {
				return fmt.Errorf("%s is not a number from 1000 on", part)
			}
			o.messages = append(o.messages, n)
		}
		return nil
	})
	flag.IntVar(&o.rounds, "rounds", 40, "times that each query runs, each time with other words")
	flag.StringVar(&o.postgres, "postgres", "", "URL of a server, as a role that may make databases; empty: starts one")
	flag.BoolVar(&o.json, "json", false, "print JSON, an object a line")
	flag.BoolVar(&o.keep, "keep", false, "keep the databases, and use those that are there")
	flag.Parse()
	if o.rounds < 1 || flag.NArg() > 0 || o.keep && o.postgres == "" {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "searchbench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	if o.postgres == "" {
		cluster, err := pgtest.Start()
		if err != nil {
			return err
		}
		defer cluster.Remove()
		o.postgres = cluster.URL("postgres", "postgres")
	}
	var archives []*archive
	for _, n := range o.messages {
		a, err := open(ctx, o, n)
		if err != nil {
			return err
		}
		defer a.close(context.WithoutCancel(ctx), o.keep)
		archives = append(archives, a)
	}
	if err := measure(ctx, archives, o.rounds); err != nil {
		return err
	}
	return report(os.Stdout, archives, o.json)
}

// report prints the figures of all archives; ratios are those of the last to
// the first.
func report(w io.Writer, archives []*archive, asJSON bool) error {
	var all []bench.Result
	add := func(a *archive, metric string, value float64, unit string) *bench.Result {
		all = append(all, bench.Result{Bench: "search", Case: fmt.Sprintf("%d messages", a.messages), Metric: metric, Value: value, Unit: unit})
		return &all[len(all)-1]
	}
	for _, a := range archives {
		for i, q := range typical {
			add(a, "p50, "+q.String(), quantile(a.times[i], .5), "ms")
			add(a, "p95, "+q.String(), quantile(a.times[i], .95), "ms")
		}
		add(a, "p50 of all", quantile(slices.Concat(a.times...), .5), "ms")
		if r := add(a, "p95 of all", quantile(slices.Concat(a.times...), .95), "ms"); a.messages >= 1_000_000 {
			*r = r.AtMost(p95Goal)
		}
		if work := slices.Concat(a.work...); len(work) > 0 {
			for i, q := range typical {
				add(a, "p95 of processor time, "+q.String(), quantile(a.work[i], .95), "ms")
			}
			add(a, "p50 of processor time of all", quantile(work, .5), "ms")
			add(a, "p95 of processor time of all", quantile(work, .95), "ms")
		}
		add(a, "index, bytes of a message", float64(a.indexBytes)/float64(a.messages), "B")
		if a.textBytes > 0 {
			add(a, "index, bytes for a byte of text", float64(a.indexBytes)/float64(a.textBytes), "")
			add(a, "messages/s indexed", float64(a.messages)/a.took.Seconds(), "")
		}
	}
	if first, last := archives[0], archives[len(archives)-1]; first != last {
		r := add(last, fmt.Sprintf("p95 of all, ratio to %d messages", first.messages), quantile(slices.Concat(last.times...), .95)/quantile(slices.Concat(first.times...), .95), "")
		*r = r.AtMost(ratioGoal)
	}
	enc := json.NewEncoder(w)
	for _, r := range all {
		var err error
		if asJSON {
			err = enc.Encode(r)
		} else {
			_, err = fmt.Fprintf(w, "%-17s %-60s %9.2f %-3s %s\n", r.Case, r.Metric, r.Value, r.Unit, r.Goal)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
