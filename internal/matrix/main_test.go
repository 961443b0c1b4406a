package matrix

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"understudy/internal/stack"
)

const repoRoot = "../.."

var update = flag.Bool("update", false, "write the measured table into docs/failures.md")

var (
	bin string         // the services, built once
	dns net.PacketConn // where the private /etc/resolv.conf points to
)

// private marks the process that has a mount namespace of its own.
const private = "UNDERSTUDY_MATRIX_PRIVATE"

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(func() int {
		if os.Getenv(private) == "" {
			return again()
		}
		cleanup, err := prepare()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer cleanup()
		return m.Run()
	}())
}

// again runs this test in a mount namespace of its own (mount_namespaces(7)):
// the host's files stay what they are.
func again() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), private+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, "run the test in a mount namespace of its own:", err)
		return 1
	}
	return cmd.ProcessState.ExitCode()
}

// prepare builds the services and gives this process, and all that it
// starts, a resolver of its own.
func prepare() (cleanup func(), err error) {
	dir, err := os.MkdirTemp("", "us-matrix-")
	if err != nil {
		return nil, err
	}
	cleanup = func() { os.RemoveAll(dir) }
	bin = filepath.Join(dir, "bin")
	if err := stack.Build(context.Background(), repoRoot, bin, switching); err != nil {
		return cleanup, err
	}
	for i := 2; ; i++ { // some address of loopback where nobody answers DNS
		at := fmt.Sprintf("127.77.%d.%d", os.Getpid()%250, i)
		if dns, err = net.ListenPacket("udp4", at+":53"); err == nil {
			text := fmt.Sprintf("nameserver %s\noptions timeout:%d attempts:1\n", at, timeout/2/time.Second)
			if err := os.WriteFile(filepath.Join(dir, "resolv.conf"), []byte(text), 0o644); err != nil {
				return cleanup, err
			}
			break
		}
		if i == 20 {
			return cleanup, err
		}
	}
	if err := syscall.Mount(filepath.Join(dir, "resolv.conf"), "/etc/resolv.conf", "", syscall.MS_BIND, ""); err != nil {
		return cleanup, fmt.Errorf("mount a resolv.conf: %w", err)
	}
	return cleanup, nil
}
