// Package reindex measures "understudy-admin archive reindex --all": how many
// messages a second the worker reads from the segments into a new index, and
// how much memory that takes at most.
package reindex

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"understudy/internal/bench"
	"understudy/internal/bench/mail"
	"understudy/internal/bench/rig"
	"understudy/internal/stack"
)

// Run archives messages, has them indexed, and then again from nothing by a
// fresh worker.
func Run(ctx context.Context, e *bench.Env) (err error) {
	s, err := e.Stack(ctx, nil, stack.Postgres, stack.Admin, stack.Worker)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Down(context.WithoutCancel(ctx))) }()
	n := e.Size(e.Messages, 200)
	e.Say("archiving %d messages", n)
	g := mail.New(2)
	stored, err := mail.Archive(ctx, s.Info.Archive, func() []byte {
		if n--; n < 0 {
			return nil
		} else if n%20 == 0 { // one of twenty has a file
			return g.Attached(mail.PDF, 75_000)
		}
		return g.Text(5000)
	})
	if err != nil {
		return err
	}
	e.Say("indexing them for the first time")
	if _, err := s.CLI(ctx, "", "--json", "archive", "reindex", "--all"); err != nil {
		return err
	}
	if err := s.Restart(ctx, stack.Worker); err != nil {
		return err
	}
	pid, err := s.PID(stack.Worker)
	if err != nil {
		return err
	}
	e.Say("and again")
	begin := time.Now()
	answer, err := s.CLI(ctx, "", "--json", "archive", "reindex", "--all")
	took := time.Since(begin)
	if err != nil {
		return err
	}
	var done struct {
		Messages int  `json:"messages"`
		Done     bool `json:"done"`
	}
	if err := json.Unmarshal([]byte(answer), &done); err != nil {
		return fmt.Errorf("answer of reindex: %w", err)
	}
	if !done.Done || done.Messages != stored.Messages {
		return fmt.Errorf("%d of %d messages are in the new index: %s", done.Messages, stored.Messages, answer)
	}
	memory, err := rig.MemoryOf(pid)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%d messages, %.0f MB", stored.Messages, float64(stored.Bytes)/1e6)
	e.Report.Add(e.Result(name, "speed", float64(stored.Messages)/took.Seconds(), "messages/s"))
	e.Report.Add(e.Result(name, "worker's peak memory", memory.Peak, "MB"))
	return nil
}
