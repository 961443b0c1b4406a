package archive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"filippo.io/age"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

const (
	recoverEvery = time.Minute      // how often segments that could not be sealed are tried again
	lookEvery    = 10 * time.Minute // how often segments are looked for that another writer left when it died
)

// Options of a Writer. Zero values mean the defaults.
type Options struct {
	MaxBytes    int64           // a segment of more bytes is sealed; default 256 MiB
	MaxAge      time.Duration   // a segment older than this is sealed; default 10 min
	SpoolDir    string          // for temporary files; default os.TempDir()
	Compressors int             // messages compressed at once; default GOMAXPROCS
	Compress    rate.Limit      // bytes of mail compressed in a second, what comes faster is kept as it is; default 8 MiB. Encrypted mail is always compressed
	Recipients  []age.Recipient // who can read what is written, with their identity; none: it is not encrypted
	Log         *slog.Logger
	Metrics     prometheus.Registerer // may be nil

	now  func() time.Time     // tests pass midnight
	sync func(*os.File) error // tests make it fail
}

// Writer appends messages to the archive in a directory. Several writers, in
// one process or in many, may share a directory: each has a segment of its
// own. All methods may be called from many goroutines.
type Writer struct {
	dir        string
	opts       Options
	log        *slog.Logger
	metrics    *metrics
	compressor *compressor
	line       *line
	stop       chan struct{} // closed by Close
	done       chan struct{} // closed when the writing goroutine has ended
	closeErr   error         // of sealing at the end; read after done

	// Owned by the writing goroutine.
	seg     *segment // nil when none is open
	orphans bool     // a segment could not be sealed: recover it later
}

// OpenWriter opens the archive in dir, which it makes if need be, and seals
// the segments that a dead process left open.
func OpenWriter(dir string, opts Options) (*Writer, error) {
	if opts.SpoolDir != "" { // else it is shared with everybody
		removeSpools(opts.SpoolDir)
	}
	setDefaults(&opts)
	c, err := newCompressor(opts.Compressors, opts.Compress, opts.Recipients...)
	if err != nil {
		return nil, err
	}
	w := &Writer{dir: dir, opts: opts, log: opts.Log, metrics: newMetrics(opts.Metrics),
		compressor: c, line: newLine(), stop: make(chan struct{}), done: make(chan struct{})}
	for _, d := range []string{dir, filepath.Join(dir, openDir)} {
		if err := makeDir(d, dirMode); err != nil {
			return nil, fmt.Errorf("open archive: %w", err)
		}
	}
	unlock, err := lock(dir)
	if err != nil {
		return nil, err
	}
	unlock()
	w.recover()
	go w.run()
	return w, nil
}

func setDefaults(o *Options) {
	if o.MaxBytes <= 0 {
		o.MaxBytes = 256 << 20
	}
	if o.MaxAge <= 0 {
		o.MaxAge = 10 * time.Minute
	}
	if o.SpoolDir == "" {
		o.SpoolDir = os.TempDir()
	}
	if o.Compressors <= 0 {
		o.Compressors = runtime.GOMAXPROCS(0)
	}
	if o.Compress <= 0 {
		o.Compress = compressRate
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.now == nil {
		o.now = time.Now
	}
	if o.sync == nil {
		o.sync = fdatasync
	}
}

// Append returns when the message is durably in the archive. On any error the
// message must not be accepted (it may be in the archive nonetheless, when
// ctx ended while it was being written). The spool remains the caller's, to
// read and to close.
func (w *Writer) Append(ctx context.Context, e *Envelope, message *Spool) (Ref, error) {
	begin := time.Now()
	ref, err := w.append(ctx, e, message)
	if err != nil {
		w.metrics.errors.WithLabelValues(kindOf(err)).Inc()
		return ref, fmt.Errorf("append message %s to the archive: %w", e.ID, err)
	}
	w.metrics.appendSeconds.Observe(time.Since(begin).Seconds())
	w.metrics.records.Inc()
	w.metrics.rawBytes.Add(float64(message.Size()))
	w.metrics.bytes.Add(float64(ref.Length))
	return ref, nil
}

func (w *Writer) append(ctx context.Context, e *Envelope, message *Spool) (Ref, error) {
	payload, h, err := w.compressor.encode(ctx, e, message, w.opts.SpoolDir)
	if err != nil {
		return Ref{}, err
	}
	if _, ok := payload.(*stored); ok {
		w.metrics.stored.Inc()
	}
	p := &pending{header: h, payload: payload}
	b := w.line.add(p)
	if b == nil {
		payload.Close()
		return Ref{}, ErrClosed
	}
	select {
	case <-b.done: // the writing goroutine has closed the payload
		if b.err != nil {
			return Ref{}, b.err
		}
		return p.ref, nil
	case <-ctx.Done():
		if w.line.leave(b, p) {
			payload.Close()
		}
		return Ref{}, fmt.Errorf("wait for the disk: %w", context.Cause(ctx))
	}
}

// Close writes what waits, seals the segment and returns. Further Appends
// return ErrClosed.
func (w *Writer) Close() error {
	if w.line.close() {
		close(w.stop)
	}
	<-w.done
	return w.closeErr
}

// kindOf names the cause of an error for metrics.
func kindOf(err error) string {
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return "timeout"
	case errors.Is(err, ErrTooLarge):
		return "too_large"
	case errors.Is(err, ErrClosed):
		return "closed"
	case isFull(err):
		return "disk_full"
	case errors.Is(err, syscall.EROFS):
		return "read_only"
	}
	return "disk"
}
