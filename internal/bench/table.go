package bench

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
)

// WriteTable prints the figures, each with its goal and whether it was met.
func (r *Report) WriteTable(w io.Writer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "bench\tcase\tfigure\tvalue\tgoal\t")
	met, missed := 0, 0
	for _, x := range r.Results {
		verdict := ""
		if x.Met != nil && *x.Met {
			met, verdict = met+1, "met"
		} else if x.Met != nil {
			missed, verdict = missed+1, "MISSED"
		}
		value := strings.TrimSpace(number(x.Value) + " " + x.Unit)
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", x.Bench, x.Case, x.Metric, value, x.Goal, verdict)
	}
	t.Flush() //nolint:errcheck // the caller's writer is the terminal
	for _, f := range r.Failures {
		fmt.Fprintf(w, "FAILED  %s: %s\n", f.Bench, f.Error)
	}
	fmt.Fprintf(w, "%d goals met, %d missed, %d benchmarks failed; %d CPUs, load %.1f at the start\n",
		met, missed, len(r.Failures), r.Machine.CPUs, r.Machine.Load)
	if r.Short {
		fmt.Fprintln(w, "small sizes (-short): the figures only show that the programs work")
	}
}

// number shows three digits, or all before the point.
func number(v float64) string {
	digits := 0
	if a := math.Abs(v); a > 0 && a < 100 {
		digits = min(6, 2-int(math.Floor(math.Log10(a))))
	}
	return strconv.FormatFloat(v, 'f', digits, 64)
}
