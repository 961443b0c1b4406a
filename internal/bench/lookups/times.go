package lookups

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"understudy/internal/bench"
	"understudy/internal/bench/rig"
	"understudy/internal/wait"
)

// changes measures the time from the commit of a change to the answer that
// shows it: mailboxes move between registered and not, domains between modes.
func (w *world) changes(ctx context.Context) error {
	c, err := rig.DialSocketmap(w.socket)
	if err != nil {
		return err
	}
	defer c.Close()
	n := w.e.Size(200, 10)
	w.e.Say("%d changes", n)
	took := make([]time.Duration, 0, n)
	for i := range n {
		key, mode, want := w.address(i), "emergency", "OK lmtp:unix:private/dovecot-lmtp"
		if i%2 == 1 { // the same one back
			key, mode, want = w.address(i-1), "normal", "OK "+w.answer(i-1)
		}
		const sql = `UPDATE domain SET mode = $2, mode_since = now() WHERE name = split_part($1, '@', 2)`
		if _, err := w.db.Exec(ctx, sql, key, mode); err != nil {
			return fmt.Errorf("change a domain: %w", err)
		}
		committed := time.Now()
		err := wait.For(ctx, 2*time.Minute, rig.Poll, func() error {
			got, err := c.Lookup("transport", key)
			if err != nil {
				return wait.Never(err)
			}
			if got != want {
				return fmt.Errorf("the answer is %q, want %q", got, want)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("change %d: %w", i, err)
		}
		took = append(took, time.Since(committed))
	}
	name := fmt.Sprintf("%d changes, %s", n, w.name)
	w.e.Report.Add(w.e.Result(name, "commit to changed answer, p50", bench.Percentile(took, 50).Seconds(), "s"))
	w.e.Report.Add(w.e.Result(name, "commit to changed answer, p99", bench.Percentile(took, 99).Seconds(), "s").AtMost(1))
	return w.memory("after the changes")
}

// latency measures single lookups, one after another.
func (w *world) latency(context.Context) error {
	c, err := rig.DialSocketmap(w.socket)
	if err != nil {
		return err
	}
	defer c.Close()
	rng := rand.New(rand.NewPCG(5, 5))
	n := w.e.Size(100_000, 2000)
	took := make([]time.Duration, 0, n)
	for range n {
		i := rng.IntN(w.mailboxes)
		begin := time.Now()
		got, err := c.Lookup("transport", w.address(i))
		took = append(took, time.Since(begin))
		if err != nil || got != "OK "+w.answer(i) {
			return fmt.Errorf("%s: %q, %w", w.address(i), got, err)
		}
	}
	name := fmt.Sprintf("single lookups, %s", w.name)
	for _, p := range []int{50, 99} {
		w.e.Report.Add(w.e.Result(name, fmt.Sprintf("p%d", p), float64(bench.Percentile(took, p).Nanoseconds())/1000, "µs"))
	}
	return w.memory("after the lookups")
}
