package lookups

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"understudy/internal/bench"
	"understudy/internal/bench/rig"
)

// table is one of Postfix's maps.
type table struct {
	name  string
	ask   string    // as postmap names it
	rates []float64 // lookups a second, in each part
}

// compare asks all maps for the same keys by turns, a part of the keys at a
// time: what else the machine does then weighs on all of them.
func (w *world) compare(ctx context.Context) error {
	dir := filepath.Join(w.e.Dir, "postmap")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	keys := w.keys(w.e.Size(100_000, 2000))
	tables, stop, err := w.tables(ctx, dir, keys)
	if err != nil {
		return err
	}
	defer stop()
	w.e.Say("postmap asks for %d keys", len(keys))
	for part := range slices.Chunk(keys, len(keys)/w.e.Size(10, 2)) {
		said := ""
		for _, t := range tables {
			took, err := w.postmap(ctx, dir, t.ask, part)
			if err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			t.rates = append(t.rates, float64(len(part))/took.Seconds())
			said += fmt.Sprintf(" %s %.0f/s,", t.name, t.rates[len(t.rates)-1])
		}
		w.e.Say("%s", strings.Trim(said, " ,"))
	}
	name := fmt.Sprintf("postmap, %d keys of %s", len(keys), w.name)
	for _, t := range tables {
		w.e.Report.Add(w.e.Result(name, t.name, bench.Median(t.rates), "lookups/s"))
	}
	ratio := func(metric string, t *table) bench.Result {
		var parts []float64
		for i := range t.rates {
			parts = append(parts, tables[0].rates[i]/t.rates[i])
		}
		return w.e.Result(name, metric, bench.Median(parts), "")
	}
	w.e.Report.Add(ratio("policyd : pgsql", tables[1]).AtLeast(5))
	w.e.Report.Add(ratio("policyd : lmdb", tables[2]).AtLeast(0.5))
	w.e.Report.Add(ratio("policyd : a server that only answers", tables[3]))
	return nil
}

// keys are mailboxes in no order.
func (w *world) keys(n int) []int {
	return rand.New(rand.NewPCG(4, 4)).Perm(w.mailboxes)[:min(n, w.mailboxes)]
}

// tables prepares the maps; stop ends what it started.
func (w *world) tables(ctx context.Context, dir string, keys []int) (_ []*table, stop func(), err error) {
	u, err := url.Parse(w.stack.Info.Postgres)
	if err != nil {
		return nil, nil, err
	}
	password, _ := u.User.Password()
	pgsql := fmt.Sprintf("hosts = %s\nuser = %s\npassword = %s\ndbname = %s\nquery = SELECT transport FROM answer WHERE address = '%%s'\n",
		u.Host, u.User.Username(), password, strings.Trim(u.Path, "/"))
	for name, text := range map[string]string{"main.cf": "compatibility_level = 3.6\n", "pgsql.cf": pgsql, "keys": w.source(keys)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, nil, err
		}
	}
	if out, err := exec.CommandContext(ctx, "postmap", "-c", dir, "lmdb:"+dir+"/keys").CombinedOutput(); err != nil {
		return nil, nil, fmt.Errorf("make the lmdb map: %w: %s", err, out)
	}
	fixed, err := rig.ServeFixed(dir+"/fixed", "OK "+w.answer(1))
	if err != nil {
		return nil, nil, err
	}
	return []*table{
		{name: "policyd", ask: "socketmap:unix:" + w.socket + ":transport"},
		{name: "pgsql", ask: "pgsql:" + dir + "/pgsql.cf"},
		{name: "lmdb", ask: "lmdb:" + dir + "/keys"},
		{name: "a server that only answers", ask: "socketmap:unix:" + dir + "/fixed:transport"},
	}, func() { fixed.Close() }, nil
}

// source is what postmap(1) makes a map of: each key with its answer.
func (w *world) source(keys []int) string {
	var b strings.Builder
	for _, i := range keys {
		fmt.Fprintln(&b, w.address(i), w.answer(i))
	}
	return b.String()
}

// postmap looks up keys, which must all be there.
func (w *world) postmap(ctx context.Context, dir, ask string, keys []int) (time.Duration, error) {
	var in, out, trouble bytes.Buffer
	for _, i := range keys {
		fmt.Fprintln(&in, w.address(i))
	}
	cmd := exec.CommandContext(ctx, "postmap", "-c", dir, "-q", "-", ask)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &in, &out, &trouble
	begin := time.Now()
	err := cmd.Run()
	took := time.Since(begin)
	if err != nil || trouble.Len() > 0 {
		return 0, fmt.Errorf("postmap: %w: %.500s", err, &trouble)
	}
	if found := bytes.Count(out.Bytes(), []byte{'\n'}); found != len(keys) {
		return 0, fmt.Errorf("postmap found %d of %d keys", found, len(keys))
	}
	return took, nil
}
