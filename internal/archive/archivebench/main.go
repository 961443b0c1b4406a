// Command archivebench measures how fast the archive log takes messages, in
// pairs with a bare loop that writes and syncs the same batches to the same
// disk, and prints a table, or JSON with -json.
//
// Each pair is one run of the archive for a while, then of the loop, with as
// many batches of the same size: "stored" of the bytes that the archive wrote,
// "plain" of the messages as they came, uncompressed. Ratios are medians over
// the pairs, which alternate, so that a disk that changes its speed changes
// both.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"
)

// result is one line: medians over the pairs.
type result struct {
	Writers       int     `json:"writers"`
	Bytes         int     `json:"message_bytes"`
	Messages      float64 `json:"messages_per_second"`
	MB            float64 `json:"mb_per_second"`          // of messages, 10^6 bytes
	Batch         float64 `json:"messages_per_sync"`      // group commit
	Stored        float64 `json:"stored_per_byte"`        // bytes in the segment for a byte of mail
	LoopStoredMB  float64 `json:"loop_stored_mb_per_s"`   // the bare loop with the archive's bytes, in MB of mail
	LoopPlainMB   float64 `json:"loop_plain_mb_per_s"`    // the bare loop with the messages themselves
	RatioToStored float64 `json:"ratio_to_stored"`        // archive / loop
	RatioToPlain  float64 `json:"ratio_to_plain"`         // archive / loop
	Pairs         int     `json:"pairs"`                  // of which these are the medians
	Longest       float64 `json:"slowest_append_seconds"` // of all appends
}

type report struct {
	Benchmark string   `json:"benchmark"`
	CPUs      int      `json:"cpus"`
	Directory string   `json:"directory"`
	Results   []result `json:"results"`
}

func main() {
	asJSON := flag.Bool("json", false, "print JSON")
	dir := flag.String("dir", os.TempDir(), "directory on the `disk` to measure (not a tmpfs)")
	pairs := flag.Int("pairs", 5, "pairs of runs for each line")
	length := flag.Duration("time", 700*time.Millisecond, "length of one run of the archive")
	flag.Parse()
	if flag.NArg() > 0 || *pairs < 1 || *length <= 0 {
		flag.Usage()
		os.Exit(2)
	}
	out := report{Benchmark: "archive append", CPUs: runtime.GOMAXPROCS(0), Directory: *dir}
	for _, size := range []int{5_000, 100_000, 5_000_000} {
		for _, writers := range []int{1, 20, 200} {
			r, err := measure(*dir, writers, size, *pairs, *length)
			if err != nil {
				fmt.Fprintf(os.Stderr, "archivebench: %d writers, %d bytes: %v\n", writers, size, err)
				os.Exit(1)
			}
			out.Results = append(out.Results, r)
			fmt.Fprintf(os.Stderr, "%d of 9: %d bytes, %d writers: %.1f MB/s, %.2f and %.2f of the loops\n",
				len(out.Results), size, writers, r.MB, r.RatioToStored, r.RatioToPlain)
		}
	}
	if *asJSON {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(out); err != nil {
			fmt.Fprintln(os.Stderr, "archivebench:", err)
			os.Exit(1)
		}
		return
	}
	table(out)
}

func table(out report) {
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "message\twriters\tmsg/s\tMB/s\tmsg/sync\tstored/byte\tloop stored MB/s\tratio\tloop plain MB/s\tratio\t")
	for _, r := range out.Results {
		fmt.Fprintf(w, "%d\t%d\t%.0f\t%.1f\t%.1f\t%.2f\t%.1f\t%.2f\t%.1f\t%.2f\t\n", r.Bytes, r.Writers, r.Messages, r.MB, r.Batch, r.Stored,
			r.LoopStoredMB, r.RatioToStored, r.LoopPlainMB, r.RatioToPlain)
	}
	w.Flush() //nolint:errcheck // to standard output
	fmt.Printf("medians of %d pairs, %d CPUs, in %s\n", out.Results[0].Pairs, out.CPUs, out.Directory)
}

// measure makes one line.
func measure(dir string, writers, size, pairs int, length time.Duration) (result, error) {
	messages, err := newMessages(dir, writers, size)
	if err != nil {
		return result{}, err
	}
	defer messages.close()
	if size*writers > 100e6 { // a gigabyte each
		pairs = (pairs + 1) / 2
	}
	runs := make([]run, 0, pairs)
	for i := range pairs + 1 {
		r, err := messages.run(dir, length)
		if err != nil {
			return result{}, err
		}
		if i > 0 { // the first warms up
			runs = append(runs, r)
		}
	}
	median := func(f func(run) float64) float64 {
		values := make([]float64, len(runs))
		for i, r := range runs {
			values[i] = f(r)
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	mail := func(r run) float64 { return float64(r.messages) * float64(size) / 1e6 }
	longest := 0.0
	for _, r := range runs {
		longest = max(longest, r.longest.Seconds())
	}
	return result{Writers: writers, Bytes: size, Pairs: pairs, Longest: longest,
		Messages:      median(func(r run) float64 { return float64(r.messages) / r.archive.Seconds() }),
		MB:            median(func(r run) float64 { return mail(r) / r.archive.Seconds() }),
		Batch:         median(func(r run) float64 { return float64(r.messages) / float64(r.syncs) }),
		Stored:        median(func(r run) float64 { return float64(r.stored) / 1e6 / mail(r) }),
		LoopStoredMB:  median(func(r run) float64 { return mail(r) / r.loopStored.Seconds() }),
		LoopPlainMB:   median(func(r run) float64 { return mail(r) / r.loopPlain.Seconds() }),
		RatioToStored: median(func(r run) float64 { return r.loopStored.Seconds() / r.archive.Seconds() }),
		RatioToPlain:  median(func(r run) float64 { return r.loopPlain.Seconds() / r.archive.Seconds() })}, nil
}
