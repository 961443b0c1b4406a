package starving

import (
	"fmt"
	"time"

	"understudy/internal/bench"
)

// delays are what messages to the healthy domain took, in each round.
type delays struct{ rounds [][]time.Duration }

// percentile is that of all rounds together, in seconds.
func (d *delays) percentile(p int) float64 {
	var all []time.Duration
	for _, round := range d.rounds {
		all = append(all, round...)
	}
	return bench.Percentile(all, p).Seconds()
}

// ratio is the median of the rounds' ratios of the 95th percentiles: what is
// compared was measured a minute apart, not in another round.
func (d *delays) ratio(to *delays) float64 {
	ratios := make([]float64, len(d.rounds))
	for i := range ratios {
		ratios[i] = bench.Percentile(d.rounds[i], 95).Seconds() / bench.Percentile(to.rounds[i], 95).Seconds()
	}
	return bench.Median(ratios)
}

// comparison is the healthy domain by itself, beside neighbours that are alive
// and beside the same when they are dead.
type comparison struct{ without, alive, dead delays }

func (r *run) report(what string, c *comparison) {
	name := fmt.Sprintf("healthy domain beside %d whose primaries swallow packets, %s", domains, what)
	for _, x := range []struct {
		name string
		*delays
	}{{"without mail for the 20", &c.without}, {"the 20 alive, same mail", &c.alive}, {"the 20 dead", &c.dead}} {
		r.e.Report.Add(r.e.Result(name, "delay "+x.name+", p50", x.percentile(50), "s"))
		r.e.Report.Add(r.e.Result(name, "delay "+x.name+", p95", x.percentile(95), "s"))
	}
	r.e.Report.Add(r.e.Result(name, "dead : alive, p95 (what starving costs)", c.dead.ratio(&c.alive), "").AtMost(1.5))
	r.e.Report.Add(r.e.Result(name, "dead : without, p95 (with what that mail costs by itself)", c.dead.ratio(&c.without), "").AtMost(1.5))
}
