package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"understudy/internal/pgtest"
)

// usage is CPU time.
type usage struct{ worker, server time.Duration }

// used is the CPU time of this program, and of PostgreSQL.
func used(c *pgtest.Cluster) (u usage, err error) {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return u, err
	}
	u.worker = time.Duration(r.Utime.Nano() + r.Stime.Nano())
	text, err := os.ReadFile(filepath.Join(c.Dir, "data", "postmaster.pid"))
	if err != nil {
		return u, err
	}
	postmaster, _, _ := strings.Cut(string(text), "\n")
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return u, err
	}
	for _, path := range stats {
		pid := strings.Split(path, "/")[2]
		parent, own, children, err := times(path)
		switch {
		case errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH): // it ended
		case err != nil:
			return u, err
		case pid == postmaster:
			u.server += own + children
		case parent == postmaster:
			u.server += own
		}
	}
	return u, nil
}

// times reads /proc/PID/stat, see proc(5): fields 4 and 14 to 17, in ticks of
// 1/100 s.
func times(path string) (parent string, own, children time.Duration, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", 0, 0, err
	}
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(f) < 15 {
		return "", 0, 0, fmt.Errorf("%s: %q", path, text)
	}
	tick := func(i int) time.Duration {
		n, e := strconv.ParseInt(f[i-3], 10, 64)
		err = errors.Join(err, e)
		return time.Duration(n) * 10 * time.Millisecond
	}
	return f[4-3], tick(14) + tick(15), tick(16) + tick(17), err
}
