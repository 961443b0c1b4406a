package stack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// How long a component has to begin its work, and to end it before it is
// killed.
const (
	startTimeout = 2 * time.Minute
	stopTimeout  = 30 * time.Second
	pollInterval = 20 * time.Millisecond
)

func (s *Stack) pidFile(c Component) string { return s.layout.path("pid", string(c)) }
func (s *Stack) logFile(c Component) string { return s.layout.path("log", string(c)+".log") }

// Running says whether the component's process runs.
func (s *Stack) Running(c Component) bool {
	l, ok, err := loadLeader(s.pidFile(c))
	return err == nil && ok && l.alive()
}

// spawn starts a component's process in a session of its own, so that it
// outlives this one.
func (s *Stack) spawn(c Component) error {
	argv, as, err := s.command(c)
	if err != nil {
		return fmt.Errorf("start %s: %w", c, err)
	}
	log, err := os.OpenFile(s.logFile(c), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("start %s: %w", c, err)
	}
	defer log.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = s.layout.Dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=/root"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if as != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(as.uid), Gid: uint32(as.gid)}
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", c, err)
	}
	l, err := findLeader(cmd.Process.Pid)
	if err == nil {
		err = l.save(s.pidFile(c))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("start %s: %w", c, err), cmd.Process.Kill(), cmd.Wait())
	}
	go cmd.Wait() //nolint:errcheck // reaps it; how it ended is in its log
	return nil
}

// Start starts a component and waits until it does its work. One that runs
// already is left alone.
func (s *Stack) Start(ctx context.Context, c Component) error {
	if !s.layout.has(c) {
		return fmt.Errorf("start %s: this stack has no such component, only %v", c, s.layout.Components)
	}
	if s.Running(c) {
		return nil
	}
	logged := s.logSize(c)
	if err := s.spawn(c); err != nil {
		return err
	}
	return s.waitReady(ctx, c, logged)
}

// waitReady polls the component's checks, and gives up at once when its
// process ends.
func (s *Stack) waitReady(ctx context.Context, c Component, logged int64) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for _, check := range s.checks(c) {
		for {
			err := check(ctx)
			if err == nil {
				break
			}
			if !s.Running(c) {
				return fmt.Errorf("%s ended at its start; its log %s says:%s", c, s.logFile(c), indent(s.logSince(c, logged)))
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("%s is not ready: %w: %w; its log %s says:%s", c, ctx.Err(), err,
					s.logFile(c), indent(s.logSince(c, logged)))
			case <-time.After(pollInterval):
			}
		}
	}
	return nil
}

func (s *Stack) logSize(c Component) int64 {
	st, err := os.Stat(s.logFile(c))
	if err != nil {
		return 0
	}
	return st.Size()
}

// logSince returns the last lines that a component logged after offset.
func (s *Stack) logSince(c Component, offset int64) string {
	text, err := os.ReadFile(s.logFile(c))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(string(bytes.TrimSpace(text[min(int(offset), len(text)):])), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// Stop ends a component in an orderly way, and kills what is left of it after
// stopTimeout.
func (s *Stack) Stop(ctx context.Context, c Component) error {
	l, ok, err := loadLeader(s.pidFile(c))
	if err != nil || !ok {
		return err
	}
	if l.alive() {
		if err := syscall.Kill(l.pid, stopSignal(c)); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stop %s: %w", c, err)
		}
	}
	if err := s.waitGone(ctx, l); err != nil {
		if err := l.kill9(); err != nil {
			return fmt.Errorf("stop %s: %w", c, err)
		}
	}
	return s.removePidFile(c)
}

// waitGone waits until no process of the family is left.
func (s *Stack) waitGone(ctx context.Context, l leader) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	for {
		members, err := l.family()
		if err == nil && len(members) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollInterval):
		}
	}
}

// Kill9 ends every process of a component with SIGKILL, as a crash would.
func (s *Stack) Kill9(_ context.Context, c Component) error {
	l, ok, err := loadLeader(s.pidFile(c))
	if err != nil || !ok {
		return err
	}
	if err := l.kill9(); err != nil {
		return fmt.Errorf("kill %s: %w", c, err)
	}
	return s.removePidFile(c)
}

// Restart stops a component and starts it again.
func (s *Stack) Restart(ctx context.Context, c Component) error {
	if err := s.Stop(ctx, c); err != nil {
		return err
	}
	return s.Start(ctx, c)
}

func (s *Stack) removePidFile(c Component) error {
	if err := os.Remove(s.pidFile(c)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("stop %s: %w", c, err)
	}
	return nil
}

// PID is the process id of a component that runs, for those who measure it.
func (s *Stack) PID(c Component) (int, error) {
	l, ok, err := loadLeader(s.pidFile(c))
	if err != nil || !ok || !l.alive() {
		return 0, errors.Join(fmt.Errorf("%s does not run", c), err)
	}
	return l.pid, nil
}
