package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
)

// startAll starts stage after stage. Once PostgreSQL runs, the schema is made
// and the directory filled, so that the services begin with it.
func (s *Stack) startAll(ctx context.Context) error {
	for i, stage := range stages {
		if err := s.each("starting", stage, func(c Component) error { return s.Start(ctx, c) }); err != nil {
			return err
		}
		if i == 0 && s.layout.has(Postgres) {
			if err := s.prepareDatabase(ctx); err != nil {
				return err
			}
		}
	}
	return s.checkTogether(ctx)
}

// each does the same to the stack's components of a stage, at once.
func (s *Stack) each(doing string, stage []Component, do func(Component) error) error {
	var present []Component
	for _, c := range stage {
		if s.layout.has(c) {
			present = append(present, c)
		}
	}
	if len(present) == 0 {
		return nil
	}
	s.say("%s %s", doing, strings.Trim(fmt.Sprint(present), "[]"))
	errs := make([]error, len(present))
	var wg sync.WaitGroup
	for i, c := range present {
		wg.Go(func() { errs[i] = do(c) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// stopAll stops every component, the last started first.
func (s *Stack) stopAll(ctx context.Context) error {
	var errs []error
	for _, stage := range slices.Backward(stages) {
		errs = append(errs, s.each("stopping", stage, func(c Component) error { return s.Stop(ctx, c) }))
	}
	return errors.Join(errs...)
}

// Down stops the stack and removes its directory.
func (s *Stack) Down(ctx context.Context) error {
	return Down(ctx, s.layout.Link, s.progress)
}

// Down stops whatever runs of the stack in dir and removes the directory.
// Where there is none it does nothing. progress may be nil.
func Down(ctx context.Context, dir string, progress io.Writer) error {
	h, err := openDirectory(dir)
	if err != nil || h.dir == "" {
		return err
	}
	defer h.unlock()
	s := &Stack{layout: layout{Dir: h.dir, Link: h.link, Components: Components()}, progress: progress}
	if err := os.Remove(s.layout.path("stack.json")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("stop stack: %w", err)
	}
	if err := s.stopAll(ctx); err != nil {
		return err
	}
	return h.remove()
}

// abandon undoes a start that failed: nothing runs and nothing is left, but
// the logs.
func (s *Stack) abandon(ctx context.Context, h *home) error {
	s.layout.Dir, s.layout.Link, s.layout.Components = h.dir, h.link, Components()
	s.progress = nil
	if err := s.stopAll(ctx); err != nil {
		return err
	}
	if _, err := os.Stat(s.layout.path("log")); err != nil {
		return h.remove()
	}
	return removeExcept(h.dir, marker, "log")
}
