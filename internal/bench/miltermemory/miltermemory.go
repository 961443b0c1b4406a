// Package miltermemory measures the milter's peak memory while 200 clients
// send 10 MB each through Postfix at the same time: every message is in the
// milter's hands by half before any is sent to its end.
package miltermemory

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/emersion/go-smtp"

	"understudy/internal/archive"
	"understudy/internal/bench"
	"understudy/internal/bench/mail"
	"understudy/internal/bench/rig"
	"understudy/internal/stack"
)

// limit is in MB. A message costs the milter its buffers, whatever its size:
// 64 KiB of spool and the connection's own.
const limit = 192

// Run sends the messages, and counts them in the archive.
func Run(ctx context.Context, e *bench.Env) (err error) {
	clients, size := e.Size(200, 10), e.Size(10_000_000, 1_000_000)
	g, err := rig.StartGateway(ctx, e, stack.Variables{"postfix_smtpd_process_limit": clients + 10, "postfix_process_limit": clients + 50})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.Close(ctx)) }()
	pid, err := g.PID(stack.Milter)
	if err != nil {
		return err
	}
	idle, err := rig.MemoryOf(pid)
	if err != nil {
		return err
	}
	e.Say("%d clients send %.0f MB each", clients, float64(size)/1e6)
	text := mail.New(3).Attached(mail.JPEG, size*3/4)
	begin := time.Now()
	if err := sendAll(g.Info.SMTP, clients, text); err != nil {
		return err
	}
	took := time.Since(begin)
	peak, err := rig.MemoryOf(pid)
	if err != nil {
		return err
	}
	if err := archived(g.Info.Archive, clients, len(text)); err != nil {
		return err
	}
	name := fmt.Sprintf("%d messages of %.0f MB at once", clients, float64(size)/1e6)
	e.Report.Add(e.Result(name, "milter's peak memory", peak.Peak, "MB").AtMost(limit))
	e.Report.Add(e.Result(name, "of it before the first", idle.Peak, "MB"))
	e.Report.Add(e.Result(name, "accepted and archived", float64(clients*len(text))/1e6/took.Seconds(), "MB/s"))
	return nil
}

// sendAll sends one message from each client; all have sent a half before one
// sends the other.
func sendAll(address string, clients int, text []byte) error {
	errs := make([]error, clients)
	var half, done sync.WaitGroup
	half.Add(clients)
	for i := range clients {
		done.Go(func() { errs[i] = send(address, text, &half) })
	}
	done.Wait()
	return errors.Join(errs...)
}

func send(address string, text []byte, half *sync.WaitGroup) error {
	reached := sync.OnceFunc(half.Done)
	defer reached()
	c, err := smtp.Dial(address)
	if err != nil {
		return err
	}
	defer c.Close()
	c.CommandTimeout, c.SubmissionTimeout = 5*time.Minute, 10*time.Minute
	if err := c.Mail("a@example.org", nil); err != nil {
		return err
	}
	if err := c.Rcpt("ana@"+stack.Domain, nil); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(text[:len(text)/2]); err != nil {
		return err
	}
	reached()
	half.Wait()
	if _, err := w.Write(text[len(text)/2:]); err != nil {
		return err
	}
	return w.Close()
}

// archived counts the whole messages in the archive.
func archived(dir string, messages, size int) error {
	segments, err := archive.Segments(dir)
	if err != nil {
		return err
	}
	n := 0
	for _, seg := range segments {
		r, err := archive.OpenSegment(dir, seg.Name)
		if err != nil {
			return err
		}
		for rec, err := r.Next(); err == nil; rec, err = r.Next() {
			if rec.Size == int64(size) {
				n++
			}
		}
		if err := r.Close(); err != nil {
			return err
		}
	}
	if n != messages {
		return fmt.Errorf("%d messages were accepted, %d are archived", messages, n)
	}
	return nil
}
