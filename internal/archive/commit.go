package archive

import (
	"errors"
	"fmt"
	"syscall"
	"time"
)

// run is the writing goroutine: the only one that touches segments.
func (w *Writer) run() {
	defer close(w.done)
	tick := time.NewTicker(min(max(w.opts.MaxAge/10, time.Second), recoverEvery))
	defer tick.Stop()
	recovered := time.Now()
	for {
		select {
		case <-w.line.wake:
			if b := w.line.take(); b != nil {
				w.commit(b)
			}
		case <-tick.C:
			w.rotate()
			if since := time.Since(recovered); since >= recoverEvery && w.orphans || since >= lookEvery {
				w.recover()
				recovered = time.Now()
			}
		case <-w.stop:
			w.finish()
			return
		}
	}
}

// finish writes what still waits and seals the segment.
func (w *Writer) finish() {
	for b := w.line.take(); b != nil; b = w.line.take() {
		w.commit(b)
	}
	if w.seg != nil {
		w.closeErr = w.retire()
	}
}

// commit makes a batch durable, or none of it, and answers everybody in it.
func (w *Writer) commit(b *batch) {
	if len(b.messages) == 0 {
		return // they all left
	}
	if b.err = w.store(b.messages); b.err != nil {
		w.log.Error("archive batch not written; its messages are refused for now", "messages", len(b.messages), "error", b.err)
	} else {
		w.metrics.batch.Observe(float64(len(b.messages)))
	}
	for _, p := range b.messages {
		p.payload.Close()
	}
	close(b.done)
}

func (w *Writer) store(batch []*pending) error {
	w.rotate()
	if w.seg == nil {
		s, err := createSegment(w.dir, w.opts.now())
		if err != nil {
			return err
		}
		w.seg = s
		w.metrics.open.Set(1)
	}
	if err := w.seg.write(batch); err != nil {
		err = fmt.Errorf("write to segment %s: %w", w.seg.name, err)
		// Full disk or worse: forget the batch, keep the segment if it can be
		// cut back.
		if cut := w.seg.rollback(); cut != nil {
			return errors.Join(err, cut, w.retire())
		}
		return err
	}
	begin := time.Now()
	if err := w.opts.sync(w.seg.file); err != nil {
		// After a failed sync the kernel may have dropped the pages and forgotten
		// the error: nothing behind the last good sync can be trusted, and no
		// later sync of this file means anything for them.
		err = fmt.Errorf("sync segment %s: %w", w.seg.name, err)
		return errors.Join(err, w.retire())
	}
	w.metrics.syncSeconds.Observe(time.Since(begin).Seconds())
	last := batch[len(batch)-1].ref
	w.seg.committed = last.Offset + last.Length
	w.seg.records += len(batch)
	if err := w.seg.publish(); err != nil { // readers lag until the next one
		w.log.Warn("segment's mark not written", "segment", w.seg.name, "error", err)
	}
	return nil
}

// rotate seals the segment when it is large or old enough, or of another UTC
// day.
func (w *Writer) rotate() {
	if w.seg == nil {
		return
	}
	now := w.opts.now()
	const day = "2006-01-02"
	if w.seg.committed < w.opts.MaxBytes && now.Sub(w.seg.started) < w.opts.MaxAge &&
		now.UTC().Format(day) == w.seg.started.UTC().Format(day) {
		return
	}
	if err := w.retire(); err != nil {
		w.log.Error("segment not sealed; trying again later", "error", err)
	}
}

// retire seals the segment and gives it up, whatever happens.
func (w *Writer) retire() error {
	s := w.seg
	w.seg = nil
	w.metrics.open.Set(0)
	if err := s.seal(); err != nil {
		w.orphans = true
		w.metrics.sealErrors.Inc()
		return err
	}
	if s.committed > 0 {
		w.metrics.sealed.Inc()
		w.log.Info("segment sealed", "segment", s.name, "records", s.records, "bytes", s.committed)
	}
	return nil
}

// recover seals what lies open without a living writer.
func (w *Writer) recover() {
	n, err := recoverOpen(w.dir, w.log)
	w.metrics.recovered.Add(float64(n))
	w.orphans = err != nil
	if err != nil {
		w.metrics.sealErrors.Inc()
		w.log.Error("open segments not recovered; trying again later", "error", err)
	}
}

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
