package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

// Options say which benchmarks run, and how.
type Options struct {
	Only     *regexp.Regexp // names; nil: all
	Short    bool           // small sizes, to try the programs
	Messages int            // of the large archive
	Dir      string         // on the disk to be measured
	Repo     string         // checkout of the sources
	Bin      string         // prebuilt services; empty: built from Repo
	Progress io.Writer
}

// Run runs benchmarks one after another. Those that fail are in the report;
// the error is of the run itself.
func Run(ctx context.Context, o Options, all []Bench) (*Report, error) {
	if o.Only == nil {
		o.Only = regexp.MustCompile("")
	}
	dir, err := os.MkdirTemp(o.Dir, "understudy-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary directory
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	report, ran := NewReport(o.Short), 0
	services := &services{repo: o.Repo, dir: o.Bin}
	if o.Bin == "" {
		services.dir, services.build = filepath.Join(dir, "bin"), true
	}
	for _, b := range all {
		if !o.Only.MatchString(b.Name) {
			continue
		}
		ran++
		e := &Env{Name: b.Name, Report: report, Short: o.Short, Messages: o.Messages, Dir: filepath.Join(dir, b.Name), Repo: o.Repo, Progress: o.Progress, services: services}
		begin := time.Now()
		if err := e.run(ctx, b); err != nil {
			report.Fail(b.Name, err)
			e.Say("failed: %v", err)
		} else {
			e.Say("done after %.0f s", time.Since(begin).Seconds())
		}
		if ctx.Err() != nil {
			return report, ctx.Err()
		}
	}
	if ran == 0 {
		return nil, fmt.Errorf("no benchmark is named like %q", o.Only)
	}
	return report, nil
}

// run runs one benchmark in a directory of its own.
func (e *Env) run(ctx context.Context, b Bench) (err error) {
	if err := os.Mkdir(e.Dir, 0o755); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(e.Dir)) }()
	e.Say("begins")
	return b.Run(ctx, e)
}
