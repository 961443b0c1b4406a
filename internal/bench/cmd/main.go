// Command bench runs the benchmarks, prints a table of the figures with their
// goals, and writes them as JSON. "make bench" calls it. It exits 0, also when
// goals are missed, 1 when a benchmark failed, 2 when it is used wrongly.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"

	"understudy/internal/bench"
	"understudy/internal/bench/disk"
	"understudy/internal/bench/failover"
	"understudy/internal/bench/lookups"
	"understudy/internal/bench/miltermemory"
	"understudy/internal/bench/reindex"
	"understudy/internal/bench/relaypath"
	"understudy/internal/bench/starving"
)

// all are the benchmarks, in the order in which they run.
var all = []bench.Bench{
	bench.Program("append", "./internal/archive/archivebench", []string{"-pairs", "5"}, []string{"-pairs", "1", "-time", "20ms", "-largest", "5000"}),
	bench.Program("index", "./worker/index/indexbench", nil, []string{"-messages", "100"}),
	bench.Program("search", "./internal/store/searchbench", nil, []string{"-messages", "1000,2000", "-rounds", "2"}),
	{Name: "disk", Run: disk.Run},
	{Name: "milter-memory", Run: miltermemory.Run},
	{Name: "reindex", Run: reindex.Run},
	{Name: "lookups", Run: lookups.Run},
	{Name: "relay-path", Run: relaypath.Run},
	{Name: "failover", Run: failover.Run},
	{Name: "starving", Run: starving.Run},
}

func main() {
	only := flag.String("run", "", "run only benchmarks whose name matches this `regexp`")
	short := flag.Bool("short", false, "small sizes, to try the programs")
	out := flag.String("out", "bench.json", "`file` for the figures; empty: none")
	messages := flag.Int("messages", 100_000, "size of the archive that is indexed again")
	dir := flag.String("dir", os.TempDir(), "directory on the `disk` to measure (not a tmpfs)")
	repo := flag.String("repo", ".", "checkout of the sources")
	bin := flag.String("bin", "", "directory with prebuilt services; empty: they are built")
	list := flag.Bool("list", false, "only list the benchmarks")
	flag.Parse()
	match, err := regexp.Compile(*only)
	if err != nil || flag.NArg() > 0 || *messages < 1 {
		flag.Usage()
		os.Exit(2)
	}
	if *list {
		for _, b := range all {
			fmt.Println(b.Name)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ok, err := run(ctx, bench.Options{Only: match, Short: *short, Messages: *messages, Dir: *dir, Repo: *repo, Bin: *bin, Progress: os.Stderr}, *out)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// run runs, prints and writes; it says whether all benchmarks came to their
// end. What was measured before an interrupt is shown as well.
func run(ctx context.Context, o bench.Options, out string) (bool, error) {
	syscall.Umask(0o022)
	report, err := bench.Run(ctx, o, all)
	if report == nil {
		return false, err
	}
	fmt.Println()
	report.WriteTable(os.Stdout)
	if out != "" && err == nil {
		err = write(report, out)
	}
	return len(report.Failures) == 0, err
}

func write(report *bench.Report, path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := report.WriteJSON(f); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return f.Close()
}
