package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"understudy/internal/directory"
	"understudy/policyd/policytest"
)

// TestMain makes this test program the service itself when it is started
// with the arguments of understudy-policyd.
func TestMain(m *testing.M) {
	if os.Getenv("UNDERSTUDY_POLICYD") != "" {
		main()
	}
	os.Exit(m.Run())
}

// program returns understudy-policyd as a process of its own.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = append(os.Environ(), "UNDERSTUDY_POLICYD=1")
	return cmd
}

// writeConfig writes c as a file and returns its path.
func writeConfig(t *testing.T, c *Config) string {
	t.Helper()
	path := filepath.Join(c.StateDirectory, "policyd.yml")
	text := fmt.Sprintf("database: {url: %q}\nstate_directory: %s\nmetrics_listen: %s\npolicy_listen: %q\nsocketmap_listen: %q\ncontrol_listen: %q\n",
		c.Database.URL, c.StateDirectory, c.MetricsListen, c.PolicyListen, c.SocketmapListen, c.ControlListen)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// startProgram starts the service and waits until its health has the status.
func startProgram(t *testing.T, c *Config, status int) *exec.Cmd {
	t.Helper()
	cmd := program(t, "-config", writeConfig(t, c))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill() //nolint:errcheck // it may have ended
		cmd.Wait()         //nolint:errcheck
	})
	healthIs(t, c, status)
	return cmd
}

func TestProgramWithoutPostgreSQL(t *testing.T) {
	t.Parallel()
	c := newConfig(t)
	saveDirectory(t, c, policytest.Example().With(func(d *policytest.Domain) { d.Mode = directory.Emergency }))
	startProgram(t, c, http.StatusOK)
	ask(t, dial(t, c.PolicyListen), policytest.NewRequest().Recipient("dora@example.test"), "550 5.1.1 ")
	lookup(t, dial(t, c.SocketmapListen), "transport", "ana@example.test", "OK lmtp:unix:private/dovecot-lmtp")
	if info, err := os.Stat(strings.TrimPrefix(c.PolicyListen, "unix:")); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("socket %v, %v; want mode 0660", info, err)
	}
}

func TestProgramWithNothing(t *testing.T) {
	t.Parallel()
	c := newConfig(t)
	startProgram(t, c, http.StatusServiceUnavailable)
	policy, maps := dial(t, c.PolicyListen), dial(t, c.SocketmapListen)
	ask(t, policy, policytest.NewRequest(), "451 4.3.5 ")
	ask(t, policy, policytest.NewRequest().Context("reentry"), "450 4.2.0 ")
	lookup(t, maps, "transport", "x@elsewhere.test", "TEMP ")
	lookup(t, maps, "relay_domains", "example.test", "TEMP ")
}

func TestProgramUsage(t *testing.T) {
	t.Parallel()
	c := newConfig(t)
	good, bad := writeConfig(t, c), filepath.Join(c.StateDirectory, "bad.yml")
	if err := os.WriteFile(bad, []byte(goodConfig+"max_connections: -1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		args []string
		exit int
		says string // "" for nothing at all
	}{
		{[]string{"-config", good, "-check"}, 0, ""},
		{[]string{"-config", bad, "-check"}, 1, "max_connections: must be more than 0"},
		{[]string{"-config", bad + ".gone", "-check"}, 1, "no such file"},
		{[]string{"-confg", good}, 2, "not defined"},
		{[]string{"-config", good, "extra"}, 2, "usage"},
	}
	for _, tt := range tests {
		out, _ := program(t, tt.args...).CombinedOutput()
		cmd := program(t, tt.args...)
		cmd.Run() //nolint:errcheck // the exit status tells
		if got := cmd.ProcessState.ExitCode(); got != tt.exit || !strings.Contains(string(out), tt.says) || tt.says == "" && len(out) > 0 {
			t.Errorf("%v: exit %d, %q; want %d, %q", tt.args, got, out, tt.exit, tt.says)
		}
	}
}

// TestProgramEndsWithoutTearingAnAnswer stops the service while clients ask
// as fast as they can: each sees whole answers, then a closed connection.
func TestProgramEndsWithoutTearingAnAnswer(t *testing.T) {
	t.Parallel()
	c := newConfig(t)
	saveDirectory(t, c, policytest.Example())
	cmd := startProgram(t, c, http.StatusOK)
	half := dial(t, c.PolicyListen) // a request that is under way all the time
	wire := policytest.NewRequest().String()
	if _, err := half.Write([]byte(wire[:40])); err != nil {
		t.Fatal(err)
	}
	idle := dial(t, c.SocketmapListen)
	lookup(t, idle, "relay_domains", "example.test", "OK ")

	var answered atomic.Int64
	var clients sync.WaitGroup
	for i := range 20 {
		policy, maps := dial(t, c.PolicyListen), dial(t, c.SocketmapListen)
		one := func() error { _, err := policy.Ask(policytest.NewRequest()); return err }
		if i%2 == 0 {
			one = func() error { _, err := maps.Lookup("transport", "ana@example.test"); return err }
		}
		clients.Go(func() {
			for {
				err := one()
				if errors.Is(err, policytest.ErrTorn) || errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("client: %v", err)
				}
				if err != nil {
					return
				}
				answered.Add(1)
			}
		})
	}
	eventually(t, func() error {
		if n := answered.Load(); n < 2000 {
			return fmt.Errorf("%d answers so far", n)
		}
		return nil
	})
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	clients.Wait()
	if n, err := idle.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("idle connection: %d bytes, %v; want it closed", n, err)
	}
	if _, err := half.Write([]byte(wire[40:])); err != nil {
		t.Fatal(err)
	}
	if got, err := half.Action(); err != nil || got != "reject_unverified_recipient" {
		t.Errorf("request under way: %q, %v", got, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("exit: %v", err)
	}
}
