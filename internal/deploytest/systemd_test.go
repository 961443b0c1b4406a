//go:build deploy

package deploytest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"understudy/internal/wait"
)

// systemdScript boots the machine in control groups of its own, as its
// systemd manages them, and shuts it down at the end of standard input. nspawn
// takes SIGTERM as a wish for an orderly shutdown.
const systemdScript = `
for g in $(cat "$ROOT/../cgroups"); do echo $$ > "$g/cgroup.procs"; done
exec 3<&0
systemd-nspawn --quiet --boot --directory="$ROOT" --machine="$NAME" --register=no --keep-unit --private-network \
	--capability=CAP_NET_ADMIN --resolv-conf=off --timezone=off --link-journal=no </dev/null &
nspawn=$!
cat <&3 >/dev/null
kill -TERM $nspawn
n=0
while kill -0 $nspawn 2>/dev/null && [ $n -lt 300 ]; do n=$((n+1)); sleep 0.2; done
kill -KILL $nspawn 2>/dev/null || :
`

// startSystemd boots with systemd as PID 1.
func (m *machine) startSystemd(t *testing.T) {
	t.Helper()
	list := ""
	for _, g := range m.controlGroups() {
		if err := os.MkdirAll(g, 0o755); err != nil {
			t.Fatal(err)
		}
		list += g + "\n"
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(m.root), "cgroups"), []byte(list), 0o644); err != nil {
		t.Fatal(err)
	}
	m.launch(t, systemdScript, &syscall.SysProcAttr{Setsid: true})
	wait.Until(t, "boot", func() error {
		// The child of nspawn; while it prepares, that is not PID 1 yet.
		kids, err := children(m.process.Process.Pid)
		if err == nil && len(kids) > 0 {
			kids, err = children(kids[0])
		}
		if err != nil || len(kids) == 0 {
			return fmt.Errorf("no PID 1 (%v): %s", err, m.console)
		}
		m.leader = kids[0]
		if err := m.writeWrapper(); err != nil {
			return err
		}
		out, err := m.try("", "systemctl is-system-running")
		if out == "running" || out == "degraded" {
			return nil
		}
		return fmt.Errorf("%s: %w\n%s", out, err, m.console)
	})
}

// controlGroups are the machine's: one in the unified hierarchy, or in both of
// a hybrid set-up.
func (m *machine) controlGroups() []string {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return []string{"/sys/fs/cgroup/" + m.name}
	}
	return []string{"/sys/fs/cgroup/systemd/" + m.name, "/sys/fs/cgroup/unified/" + m.name}
}

// removeGroups removes what systemd left of its tree, from the leaves.
func (m *machine) removeGroups() error {
	for _, g := range m.controlGroups() {
		var dirs []string
		err := filepath.WalkDir(g, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return err
		})
		for i := len(dirs) - 1; i >= 0 && err == nil; i-- {
			err = os.Remove(dirs[i])
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove control groups: %w", err)
		}
	}
	return nil
}
