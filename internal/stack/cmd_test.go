package stack

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// tool runs the stack's command and returns what it says and its exit status.
func tool(t *testing.T, as *syscall.Credential, args ...string) (string, int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, Tool), args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func TestCommand(t *testing.T) {
	t.Parallel()
	s := startStackIn(t, filepath.Join(t.TempDir(), "run"), Options{Only: standIns})
	dir := s.layout.Link
	if err := os.Chmod(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
	for name, c := range map[string]struct {
		as   *syscall.Credential
		args []string
		exit int
		says string
	}{
		"no command":        {nil, nil, 2, "usage: understudy-stack"},
		"unknown command":   {nil, []string{"fly"}, 2, "usage: understudy-stack"},
		"too many words":    {nil, []string{"-dir", dir, "start", "primary", "internet"}, 2, "usage: understudy-stack"},
		"unknown component": {nil, []string{"-dir", dir, "start", "teapot"}, 1, "this stack has no such component"},
		"not root":          {nobody, []string{"up"}, 1, "must run as root"},
		"no stack":          {nil, []string{"-dir", "/nowhere/run", "status"}, 1, "open stack"},
		"down, no stack":    {nil, []string{"-dir", "/nowhere/run", "down"}, 0, ""},
		"package unknown":   {nobody, []string{"packages", "understudy-no-such-package"}, 1, "only root can install them"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if out, exit := tool(t, c.as, c.args...); exit != c.exit || !strings.Contains(out, c.says) {
				t.Errorf("exit status %d, want %d with %q:\n%s", exit, c.exit, c.says, out)
			}
		})
	}
}

// The commands in stack.json work from another process.
func TestCommandStopsAndStarts(t *testing.T) {
	t.Parallel()
	s := startStackIn(t, filepath.Join(t.TempDir(), "run"), Options{Only: standIns})
	for _, step := range []struct {
		command string
		runs    bool
	}{{"stop", false}, {"stop", false}, {"start", true}, {"start", true}, {"kill", false}, {"restart", true}} {
		if out, exit := tool(t, nil, "-dir", s.layout.Link, step.command, "primary"); exit != 0 || s.Running(Primary) != step.runs {
			t.Errorf("%s: exit status %d, running %v:\n%s", step.command, exit, s.Running(Primary), out)
		}
	}
	if !strings.HasPrefix(s.Info.Primary.Stop, s.Info.Bin+"/"+Tool+" -dir ") || !strings.HasSuffix(s.Info.Primary.Stop, " stop primary") {
		t.Errorf("stack.json says: %s", s.Info.Primary.Stop)
	}
	if out, exit := tool(t, nil, "-dir", s.layout.Link, "down"); exit != 0 || len(processesBelow(t, s.Dir())) > 0 {
		t.Errorf("down: exit status %d:\n%s", exit, out)
	}
}
