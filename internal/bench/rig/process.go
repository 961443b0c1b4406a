// Package rig starts the real servers that benchmarks measure, and looks at
// them from outside.
package rig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"understudy/internal/wait"
)

// Poll is how often a condition is looked at: small beside what is measured.
const Poll = 5 * time.Millisecond

// Process is a program that was started.
type Process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

// Start starts a program; what it prints goes to the file log.
func Start(log, name string, args ...string) (*Process, error) {
	f, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p := &Process{cmd: exec.Command(name, args...), log: log, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = f, f
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(name), err)
	}
	go func() { p.cmd.Wait(); close(p.done) }() //nolint:errcheck // how it ended is in its log
	return p, nil
}

// Ended is an error when the program no longer runs.
func (p *Process) Ended() error {
	select {
	case <-p.done:
		text, _ := os.ReadFile(p.log)
		return fmt.Errorf("%s ended (%v); its log ends: %s", filepath.Base(p.cmd.Path), p.cmd.ProcessState, text[max(0, len(text)-2000):])
	default:
		return nil
	}
}

// Stop asks the program to end and waits for it.
func (p *Process) Stop() error {
	p.cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may have ended
	select {
	case <-p.done:
		return nil
	case <-time.After(time.Minute):
		return errors.Join(fmt.Errorf("%s did not end when asked to", filepath.Base(p.cmd.Path)), p.cmd.Process.Kill())
	}
}

// Kill ends the program without asking.
func (p *Process) Kill() {
	p.cmd.Process.Kill() //nolint:errcheck // it may have ended
	<-p.done
}

// Memory is what the program holds and held, in MB (10^6 bytes).
func (p *Process) Memory() (Memory, error) { return MemoryOf(p.cmd.Process.Pid) }

// Memory of a process.
type Memory struct{ Now, Peak float64 }

// MemoryOf reads /proc/PID/status (proc(5)): VmRSS and VmHWM.
func MemoryOf(pid int) (m Memory, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return m, err
	}
	found := 0
	for line := range strings.Lines(string(text)) {
		for key, to := range map[string]*float64{"VmHWM: %f kB": &m.Peak, "VmRSS: %f kB": &m.Now} {
			if n, _ := fmt.Sscanf(line, key, to); n == 1 {
				*to *= 1024 / 1e6
				found++
			}
		}
	}
	if found != 2 {
		return m, fmt.Errorf("process %d has no memory", pid)
	}
	return m, nil
}

// CPUOf is how long a process has computed, in user and system mode: fields 14
// and 15 of /proc/PID/stat (proc(5)), in hundredths of a second.
func CPUOf(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	var user, system time.Duration
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:])) // from the third on
	if len(fields) < 13 {
		return 0, fmt.Errorf("process %d has no times", pid)
	}
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		return 0, fmt.Errorf("times of process %d: %w", pid, err)
	}
	return (user + system) * 10 * time.Millisecond, nil
}

// Healthy waits until the service whose metrics are at address says so.
func (p *Process) Healthy(ctx context.Context, address string, timeout time.Duration) error {
	return wait.For(ctx, timeout, Poll, func() error {
		if err := p.Ended(); err != nil {
			return wait.Never(err)
		}
		_, err := Get(ctx, "http://"+address+"/healthz")
		return err
	})
}

// Get fetches a page that must be there.
func Get(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return string(body), err
}
