package bench

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"syscall"
	"time"
)

// Program is a benchmark that is a command of its own, run with "go run"; it
// prints its figures as JSON, and shows its progress on standard error.
func Program(name, pkg string, full, short []string) Bench {
	return Bench{Name: name, Run: func(ctx context.Context, e *Env) error {
		args := full
		if e.Short {
			args = short
		}
		cmd := exec.CommandContext(ctx, "go", append([]string{"run", "-buildvcs=false", pkg, "-json"}, args...)...)
		// "go run" passes an interrupt on to the program; killed, it would leave it behind.
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
		cmd.WaitDelay = 30 * time.Second
		var out bytes.Buffer
		cmd.Dir, cmd.Stdout, cmd.Stderr = e.Repo, &out, e.Progress
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("run %s: %w", pkg, err)
		}
		return e.Report.ReadResults(&out)
	}}
}
