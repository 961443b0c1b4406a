//go:build deploy

package deploytest

import (
	"fmt"
	"syscall"
	"testing"

	"understudy/internal/wait"
)

// plainScript is PID 1 of a machine without systemd. It waits for the end of
// its standard input, and meanwhile for every orphan: start-stop-daemon(8)
// takes a zombie for a living process.
const plainScript = `
mount --make-rprivate /
mount --bind "$ROOT" "$ROOT"
mount -t proc proc "$ROOT/proc"
mount -t tmpfs -o mode=1777 shm "$ROOT/dev/shm"
ip link set lo up
hostname mx
exec setpriv --bounding-set -sys_time,-sys_module,-sys_boot,-sys_rawio,-mac_admin chroot "$ROOT" sh -c 'cd /; exec 3<&0 </dev/null; echo up; cat <&3 >/dev/null & wait $!'
`

// startPlain starts a machine that is nothing but namespaces: when its PID 1
// ends, the kernel kills the rest.
func (m *machine) startPlain(t *testing.T) {
	t.Helper()
	m.launch(t, plainScript, &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS})
	m.leader = m.process.Process.Pid
	wait.Until(t, "start of PID 1", func() error {
		// It has let go of the capabilities it was started with, and has a child.
		if kids, err := children(m.leader); err != nil || len(kids) == 0 {
			return fmt.Errorf("no child yet (%v): %s", err, m.console)
		}
		return m.writeWrapper()
	})
}
