package bench

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"time"

	"understudy/internal/stack"
)

// Env is what a benchmark is given.
type Env struct {
	Name     string // of the benchmark
	Report   *Report
	Short    bool      // small sizes, to try the program
	Messages int       // of the large archive
	Dir      string    // empty, on disk, removed afterwards; also Postfix's users may enter it
	Repo     string    // checkout of the sources
	Progress io.Writer // one line for each step

	services *services
}

// Bench is one benchmark.
type Bench struct {
	Name string
	Run  func(context.Context, *Env) error
}

// Say shows progress.
func (e *Env) Say(format string, args ...any) {
	fmt.Fprintf(e.Progress, "%s %s: %s\n", time.Now().Format("15:04:05"), e.Name, fmt.Sprintf(format, args...))
}

// Result is a figure of this benchmark.
func (e *Env) Result(of, metric string, value float64, unit string) Result {
	return Result{Bench: e.Name, Case: of, Metric: metric, Value: value, Unit: unit}
}

// Size is full, or small in a short run.
func (e *Env) Size(full, small int) int {
	if e.Short {
		return small
	}
	return full
}

// Bin is the directory with the services' programs.
func (e *Env) Bin(ctx context.Context) (string, error) { return e.services.bin(ctx) }

// Stack starts a scratch stack, or parts of one, in the benchmark's directory.
func (e *Env) Stack(ctx context.Context, vars stack.Variables, only ...stack.Component) (*stack.Stack, error) {
	bin, err := e.Bin(ctx)
	if err != nil {
		return nil, err
	}
	e.Say("starting a stack")
	return stack.Up(ctx, stack.Options{Dir: filepath.Join(e.Dir, "stack"), RepoRoot: e.Repo, Bin: bin, Variables: vars, Only: only})
}

// services are the programs under test, built when first asked for.
type services struct {
	repo, dir string
	build     bool

	once sync.Once
	err  error
}

func (s *services) bin(ctx context.Context) (string, error) {
	if s.build {
		s.once.Do(func() { s.err = stack.Build(ctx, s.repo, s.dir, nil) })
	}
	return s.dir, s.err
}
