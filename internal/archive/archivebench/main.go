// Command archivebench measures how fast the archive log takes messages,
// against a bare loop that writes and syncs the same batches on the same disk.
//
// A pair is one run of the archive for a while, and behind it the bare loop:
// one goroutine, one file, and for each batch that the archive committed one
// of the run's mean size, written in pieces of at most 256 KiB from a buffer
// that stays in the cache, then fdatasync. It knows no envelope, compresses
// nothing, checks nothing and answers nobody. It runs twice: with the bytes
// that the archive stored ("the same batches": the goal is for this ratio),
// and with the bytes of the messages as they came. Ratios are medians over the
// pairs: a disk or a machine that changes its speed changes both halves. What
// was written is dropped from memory soon after, in all halves alike (see
// onOldMemory).
//
// A run is long enough that it is mostly mail that comes faster than the
// archive compresses (archive.Options): small, and with one writer larger mail
// is compressed in part.
//
// Where the archive takes all cores ("cores used" is near their number) the
// ratio says what compressing, framing and waking cost there, not the disk.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"text/tabwriter"
	"time"

	"understudy/internal/bench"
)

const goal = 0.8 // of the bare loop

// line is one case: medians over the pairs.
type line struct {
	size, writers                 int
	messages, mail, batch, stored float64 // messages/s, MB/s (10^6 bytes), messages/sync, bytes/byte of mail
	ratio, ratioPlain, ratioGroup float64 // archive / loop; of a group commit that only writes
	loop, loopPlain               float64 // MB/s of mail
	cpu, cores, longest, loopCPU  float64 // microseconds/message, cores, milliseconds, microseconds/message
}

func main() {
	asJSON := flag.Bool("json", false, "print the figures as JSON, one a line")
	dir := flag.String("dir", os.TempDir(), "directory on the `disk` to measure (not a tmpfs)")
	pairs := flag.Int("pairs", 5, "pairs of runs for each case")
	length := flag.Duration("time", 1500*time.Millisecond, "length of one run of the archive")
	largest := flag.Int("largest", 5_000_000, "leave out messages of more `bytes`")
	flag.Parse()
	if flag.NArg() > 0 || *pairs < 1 || *length <= 0 {
		flag.Usage()
		os.Exit(2)
	}
	var lines []line
	for _, size := range []int{5_000, 100_000, 5_000_000} {
		if size > *largest {
			continue
		}
		for _, writers := range []int{1, 20, 200} {
			l, err := measure(*dir, writers, size, *pairs, *length)
			if err == nil && *asJSON {
				err = l.json(os.Stdout)
			}
			if err != nil {
				fmt.Fprintf(os.Stderr, "archivebench: %s: %v\n", l.name(), err)
				os.Exit(1)
			}
			lines = append(lines, l)
			fmt.Fprintf(os.Stderr, "%d of 9: %s: %.1f MB/s, %.2f of the loop\n", len(lines), l.name(), l.mail, l.ratio)
		}
	}
	if !*asJSON {
		table(os.Stdout, lines)
		fmt.Printf("medians of %d pairs, %d CPUs, in %s; the goal is a ratio of %.1f\n", *pairs, runtime.GOMAXPROCS(0), *dir, goal)
	}
}

func (l line) name() string {
	size := fmt.Sprintf("%d KB", l.size/1000)
	if l.size >= 1e6 {
		size = fmt.Sprintf("%d MB", l.size/1e6)
	}
	if l.writers == 1 {
		return size + ", 1 writer"
	}
	return fmt.Sprintf("%s, %d writers", size, l.writers)
}

func (l line) json(w io.Writer) error {
	enc := json.NewEncoder(w)
	r := func(metric string, value float64, unit string) bench.Result {
		return bench.Result{Bench: "append", Case: l.name(), Metric: metric, Value: value, Unit: unit}
	}
	for _, x := range []bench.Result{
		r("ratio to bare loop of the same batches", l.ratio, "").AtLeast(goal),
		r("ratio to bare loop of the mail uncompressed", l.ratioPlain, ""),
		r("a group commit that only writes : bare loop", l.ratioGroup, ""),
		r("mail", l.mail, "MB/s"),
		r("messages", l.messages, "1/s"),
		r("messages per sync", l.batch, ""),
		r("stored per byte of mail", l.stored, ""),
		r("bare loop of the same batches", l.loop, "MB/s of mail"),
		r("bare loop of the mail uncompressed", l.loopPlain, "MB/s"),
		r("CPU time", l.cpu, "us/message"),
		r("CPU time of the loop", l.loopCPU, "us/message"),
		r("cores used", l.cores, ""),
		r("slowest append", l.longest, "ms"),
	} {
		if err := enc.Encode(x); err != nil {
			return err
		}
	}
	return nil
}

func table(to io.Writer, lines []line) {
	w := tabwriter.NewWriter(to, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "case\tmsg/s\tMB/s\tmsg/sync\tstored/byte\tloop MB/s\tratio\tplain loop MB/s\tratio\tgroup : loop\tus CPU/msg\tloop's\tcores\tslowest ms\t")
	for _, l := range lines {
		fmt.Fprintf(w, "%s\t%.0f\t%.1f\t%.1f\t%.2f\t%.1f\t%.2f\t%.1f\t%.2f\t%.2f\t%.0f\t%.0f\t%.1f\t%.0f\t\n", l.name(), l.messages, l.mail, l.batch, l.stored,
			l.loop, l.ratio, l.loopPlain, l.ratioPlain, l.ratioGroup, l.cpu, l.loopCPU, l.cores, l.longest)
	}
	w.Flush() //nolint:errcheck // to standard output
}

// measure makes one line.
func measure(dir string, writers, size, pairs int, length time.Duration) (line, error) {
	l := line{size: size, writers: writers}
	messages, err := newMessages(dir, writers, size)
	if err != nil {
		return l, err
	}
	defer messages.close()
	if size*writers > 100e6 { // a gigabyte each
		pairs = (pairs + 1) / 2
	}
	runs := make([]run, 0, pairs)
	for i := range pairs + 1 {
		r, err := messages.run(dir, length)
		if err != nil {
			return l, err
		}
		if i > 0 { // the first warms up
			runs = append(runs, r)
			l.longest = max(l.longest, r.longest.Seconds()*1e3)
		}
	}
	median := func(f func(run) float64) float64 {
		values := make([]float64, len(runs))
		for i, r := range runs {
			values[i] = f(r)
		}
		return bench.Median(values)
	}
	mail := func(r run) float64 { return float64(r.messages) * float64(size) / 1e6 }
	each := func(r run, d time.Duration) float64 { return d.Seconds() * 1e6 / float64(r.messages) }
	l.messages = median(func(r run) float64 { return float64(r.messages) / r.archive.wall.Seconds() })
	l.mail = median(func(r run) float64 { return mail(r) / r.archive.wall.Seconds() })
	l.batch = median(func(r run) float64 { return float64(r.messages) / float64(r.syncs) })
	l.stored = median(func(r run) float64 { return float64(r.stored) / 1e6 / mail(r) })
	l.loop = median(func(r run) float64 { return mail(r) / r.loop.wall.Seconds() })
	l.loopPlain = median(func(r run) float64 { return mail(r) / r.plain.wall.Seconds() })
	l.ratio = median(func(r run) float64 { return r.loop.wall.Seconds() / r.archive.wall.Seconds() })
	l.ratioPlain = median(func(r run) float64 { return r.plain.wall.Seconds() / r.archive.wall.Seconds() })
	l.ratioGroup = median(func(r run) float64 { return r.groupLoop.wall.Seconds() / r.group.wall.Seconds() })
	l.cpu = median(func(r run) float64 { return each(r, r.archive.cpu) })
	l.loopCPU = median(func(r run) float64 { return each(r, r.loop.cpu) })
	l.cores = median(func(r run) float64 { return r.archive.cpu.Seconds() / r.archive.wall.Seconds() })
	return l, nil
}
