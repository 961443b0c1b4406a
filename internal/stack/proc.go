package stack

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// procStat is what /proc/PID/stat says of a process (proc_pid_stat(5)).
type procStat struct {
	pid, parent, session int
	state                byte
	start                uint64 // clock ticks since boot: with the pid, it names one process for good
}

func readStat(pid int) (procStat, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return procStat{}, err
	}
	_, rest, ok := bytes.Cut(text[bytes.LastIndexByte(text, ')')+1:], []byte(" "))
	f := strings.Fields(string(rest))
	if !ok || len(f) < 20 {
		return procStat{}, fmt.Errorf("read /proc/%d/stat: %q", pid, text)
	}
	st := procStat{pid: pid, state: f[0][0]}
	var errs [3]error
	st.parent, errs[0] = strconv.Atoi(f[1])
	st.session, errs[1] = strconv.Atoi(f[3])
	st.start, errs[2] = strconv.ParseUint(f[19], 10, 64)
	return st, errors.Join(errs[:]...)
}

// ended says whether a process does nothing any more, reaped or not.
func (p procStat) ended() bool { return p.state == 'Z' || p.state == 'X' }

// leader names a component's first process, which has a session of its own.
type leader struct {
	pid   int
	start uint64
	boot  string
}

func bootID() (string, error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(text)), err
}

// findLeader names the process pid as it runs now.
func findLeader(pid int) (leader, error) {
	st, err := readStat(pid)
	if err != nil {
		return leader{}, err
	}
	boot, err := bootID()
	return leader{pid, st.start, boot}, err
}

func (l leader) save(path string) error {
	return writeFile(path, fmt.Appendf(nil, "%d %d %s\n", l.pid, l.start, l.boot), 0o644)
}

// loadLeader reads what save wrote; ok is false when there is nothing.
func loadLeader(path string) (l leader, ok bool, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, false, nil
	}
	if err == nil {
		_, err = fmt.Sscan(string(text), &l.pid, &l.start, &l.boot)
	}
	if err != nil {
		return l, false, fmt.Errorf("read pid file %s: %w", path, err)
	}
	return l, true, nil
}

// alive says whether exactly this process runs.
func (l leader) alive() bool {
	st, err := readStat(l.pid)
	if err != nil || st.start != l.start || st.ended() {
		return false
	}
	boot, err := bootID()
	return err == nil && boot == l.boot
}

// family returns the running processes of the leader's session and its
// descendants (PostgreSQL's have sessions of their own). A pid that another
// process has by now is recognised by its start time, and nothing is found.
func (l leader) family() ([]procStat, error) {
	if boot, err := bootID(); err != nil || boot != l.boot {
		return nil, err
	}
	if st, err := readStat(l.pid); err == nil && st.start != l.start {
		return nil, nil
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	all := map[int]procStat{}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			if st, err := readStat(pid); err == nil { // else it ended meanwhile
				all[pid] = st
			}
		}
	}
	var found []procStat
	for _, st := range all {
		if !st.ended() && l.owns(st, all) {
			found = append(found, st)
		}
	}
	return found, nil
}

func (l leader) owns(st procStat, all map[int]procStat) bool {
	if st.start < l.start {
		return false
	}
	for range 20 { // generations
		if st.session == l.pid || st.pid == l.pid {
			return true
		}
		parent, ok := all[st.parent]
		if !ok {
			return false
		}
		st = parent
	}
	return false
}

// kill9 ends the family at once and the processes it makes meanwhile.
func (l leader) kill9() error {
	for range 50 {
		members, err := l.family()
		if err != nil || len(members) == 0 {
			return err
		}
		for _, m := range members {
			if now, err := readStat(m.pid); err == nil && now.start == m.start {
				if err := syscall.Kill(m.pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
					return fmt.Errorf("kill process %d: %w", m.pid, err)
				}
			}
		}
	}
	return nil
}
