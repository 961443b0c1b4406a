//go:build deploy

package deploytest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"understudy/internal/wait"
)

// machine is a Debian system that runs, with a network of its own.
type machine struct {
	system
	root    string // its / as seen from here
	name    string
	wrapper string // a program that stands in for chroot(8)

	process *exec.Cmd
	stdin   io.WriteCloser // closed, or this process gone: the machine ends
	console *bytes.Buffer
	leader  int // its PID 1, as numbered here
}

// newMachine unpacks a system and starts it.
func newMachine(t *testing.T, s system) *machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this must run as root")
	}
	m := &machine{system: s, root: filepath.Join(t.TempDir(), "root"), name: fmt.Sprintf("understudy-%d-%s", os.Getpid(), s.release)}
	if err := os.Mkdir(m.root, 0o755); err != nil {
		t.Fatal(err)
	}
	s.extract(t, m.root)
	for name, text := range map[string]string{"hostname": "mx\n", "hosts": "127.0.0.1 localhost\n127.0.1.1 mx.example.net mx\n"} {
		if err := os.WriteFile(filepath.Join(m.root, "etc", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { m.stop(t) })
	m.start(t)
	return m
}

// start boots the machine.
func (m *machine) start(t *testing.T) {
	t.Helper()
	if m.systemd {
		m.startSystemd(t)
	} else {
		m.startPlain(t)
	}
}

// launch runs a shell script that becomes, or starts, the machine.
func (m *machine) launch(t *testing.T, script string, attr *syscall.SysProcAttr) {
	t.Helper()
	m.console = &bytes.Buffer{}
	m.process = exec.Command("sh", "-ec", script)
	m.process.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "ROOT=" + m.root, "NAME=" + m.name, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1"}
	m.process.SysProcAttr = attr
	m.process.Stdout, m.process.Stderr = m.console, m.console
	m.process.WaitDelay = time.Minute // nobody of the machine may hold its console for longer
	var err error
	if m.stdin, err = m.process.StdinPipe(); err == nil {
		err = m.process.Start()
	}
	if err != nil {
		t.Fatalf("start machine: %v", err)
	}
}

// stop ends the machine and all its processes.
func (m *machine) stop(t *testing.T) {
	if m.process == nil {
		return
	}
	m.stdin.Close()
	if err := m.process.Wait(); err != nil && m.systemd {
		t.Logf("end of machine: %v\n%s", err, m.console)
	}
	m.process = nil
	if m.systemd {
		wait.Until(t, "end of control groups", m.removeGroups)
	}
}

// writeWrapper makes a program that Ansible uses in place of chroot(8):
// "wrapper DIRECTORY COMMAND..." runs the command in all namespaces of PID 1.
// nsenter(1) keeps this machine's capabilities, so they are cut to PID 1's:
// the clock, for one, is not in a namespace.
func (m *machine) writeWrapper() error {
	mine, err := boundingSet(os.Getpid())
	if err != nil {
		return err
	}
	its, err := boundingSet(m.leader)
	if err != nil {
		return err
	}
	bound := ""
	for i := range 41 {
		if mine>>i&1 == 1 && its>>i&1 == 0 {
			bound += fmt.Sprintf(",-cap_%d", i)
		}
	}
	if bound != "" {
		bound = "setpriv --bounding-set " + bound[1:]
	}
	m.wrapper = filepath.Join(filepath.Dir(m.root), "enter")
	text := fmt.Sprintf("#!/bin/sh\nshift\nexec nsenter --target %d --all --root --wd env -i PATH=%s HOME=/root LANG=C.UTF-8 TERM=dumb %s \"$@\"\n",
		m.leader, "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", bound)
	return os.WriteFile(m.wrapper, []byte(text), 0o755)
}

// boundingSet reads the capabilities that a process and its children can have.
func boundingSet(pid int) (uint64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), "\nCapBnd:\t")
	set, _, _ := strings.Cut(rest, "\n")
	return strconv.ParseUint(set, 16, 64)
}

// try runs a shell command in the machine.
func (m *machine) try(input, script string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, m.wrapper, m.root, "sh", "-c", script)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// exec is try for commands that must not fail.
func (m *machine) exec(t *testing.T, input, script string) string {
	t.Helper()
	out, err := m.try(input, script)
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return out
}

// setns is the number of setns(2), which package syscall does not know.
var setns = map[string]uintptr{"amd64": 308, "arm64": 268}[runtime.GOARCH]

// dial connects from within the machine's network.
func (m *machine) dial(ctx context.Context, network, address string) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its goroutine
		var r result
		if r.err = m.enterNetwork(); r.err == nil {
			d := net.Dialer{Timeout: time.Minute}
			r.conn, r.err = d.DialContext(ctx, network, address)
		}
		done <- r
	}()
	r := <-done
	return r.conn, r.err
}

func (m *machine) enterNetwork() error {
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", m.leader))
	if err != nil {
		return err
	}
	defer f.Close()
	if _, _, errno := syscall.RawSyscall(setns, f.Fd(), syscall.CLONE_NEWNET, 0); errno != 0 {
		return fmt.Errorf("enter network of the machine: %w", errno)
	}
	return nil
}

// children are the child processes of pid.
func children(pid int) ([]int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil, err
	}
	var out []int
	for _, f := range strings.Fields(string(text)) {
		n, err := strconv.Atoi(f)
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, nil
}
