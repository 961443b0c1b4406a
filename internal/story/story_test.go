package story

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"understudy/internal/stack"
)

// bin holds the programs, built once for all stacks of these tests.
var bin string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if bin, err = os.MkdirTemp("", "us-bin-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(bin)
		if err := stack.Build(context.Background(), "../..", bin, nil); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// newStack starts a scratch stack that lives as long as the test.
func newStack(t *testing.T) (*Story, *stack.Stack) {
	t.Helper()
	return newStackWith(t, nil)
}

// newStackWith is newStack with variables of its own.
func newStackWith(t *testing.T, vars stack.Variables) (*Story, *stack.Stack) {
	t.Helper()
	dir, err := os.MkdirTemp("", "us-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	run := filepath.Join(dir, "run")
	st, err := stack.Up(t.Context(), stack.Options{Dir: run, RepoRoot: "../..", Bin: bin, Variables: vars, Progress: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			showLogs(t, filepath.Join(st.Dir(), "log"))
		}
		if err := stack.Down(context.WithoutCancel(t.Context()), run, nil); err != nil {
			t.Error(err)
		}
	})
	return &Story{info: st.Info, dir: run, out: t.Output()}, st
}

// showLogs prints the end of each component's log.
func showLogs(t *testing.T, dir string) {
	t.Helper()
	logs, _ := filepath.Glob(filepath.Join(dir, "*.log"))
	for _, path := range logs {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
		t.Logf("%s:\n%s", filepath.Base(path), bytes.Join(lines[max(0, len(lines)-40):], []byte("\n")))
	}
}

// TestStory plays the whole outage on a stack of its own, and a redelivery into
// the portal.
func TestStory(t *testing.T) {
	t.Parallel()
	s, _ := newStack(t)
	if err := s.Play(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.redelivered(t.Context()); err != nil {
		t.Fatal(err)
	}
}
