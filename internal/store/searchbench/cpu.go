package main

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"time"
)

// cpu is the time for which this program and the archive's one connection to
// PostgreSQL have worked: what searches would take on a machine with nothing
// else to do. ok is false when the server is not on this machine.
func (a *archive) cpu(ctx context.Context) (t time.Duration, ok bool) {
	if a.backend == 0 {
		if err := a.store.Pool.QueryRow(ctx, `SELECT pg_backend_pid()`).Scan(&a.backend); err != nil {
			return 0, false
		}
	}
	var r syscall.Rusage
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", a.backend)) // the first number is ns on a processor
	if err != nil || syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0, false
	}
	var ns int64
	if _, err := fmt.Sscan(string(text), &ns); err != nil {
		return 0, false
	}
	return time.Duration(ns + r.Utime.Nano() + r.Stime.Nano()), true
}
