package rig

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"understudy/internal/wait"
)

// Sink is Postfix's smtp-sink(1), a mail server that takes everything and
// keeps nothing.
type Sink struct {
	*Process
	log string
}

// StartSink starts one on address; dir takes its log.
func StartSink(ctx context.Context, dir, address string) (*Sink, error) {
	s := &Sink{log: filepath.Join(dir, "sink-"+address+".log")}
	var err error
	// -c: it prints what it has counted.
	if s.Process, err = Start(s.log, "/usr/sbin/smtp-sink", "-c", "-u", "nobody", address, "1000"); err != nil {
		return nil, err
	}
	return s, wait.For(ctx, time.Minute, Poll, func() error {
		if err := s.Ended(); err != nil {
			return wait.Never(err)
		}
		return wait.Listen(address)
	})
}

// Count is how many messages came so far.
func (s *Sink) Count() (int, error) {
	f, err := os.Open(s.log)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	tail := make([]byte, min(st.Size(), 200))
	if _, err := f.ReadAt(tail, st.Size()-int64(len(tail))); err != nil {
		return 0, err
	}
	// "sess=2 quit=1 mesg=1\r", the last of which may be incomplete.
	reports := strings.Split(string(tail), "\r")
	for i := len(reports) - 2; i >= 0; i-- {
		if _, n, ok := strings.Cut(reports[i], "mesg="); ok {
			return strconv.Atoi(n)
		}
	}
	return 0, nil
}

// Reached waits until so many messages have come, for as long as some come.
func (s *Sink) Reached(ctx context.Context, want int, timeout time.Duration) error {
	return wait.For(ctx, timeout, Poll, func() error {
		n, err := s.Count()
		if err == nil && n < want {
			err = fmt.Errorf("%d of %d messages have come", n, want)
		}
		return err
	})
}
