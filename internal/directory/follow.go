package directory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	channel      = "directory"      // NOTIFY channel of the schema's triggers
	pollInterval = 30 * time.Second // a lost notification costs no more than this
	dialTimeout  = 5 * time.Second
	silence      = 10 * time.Second // of PostgreSQL, before it is taken for gone: a server that vanished does not say so
	maxRetry     = 5 * time.Second
)

// Follower keeps a Directory like the database: at start from its file, then
// from PostgreSQL for as long as Run runs.
type Follower struct {
	Directory   *Directory
	Config      *pgx.ConnConfig // of a role that may read the directory tables
	File        string          // where the directory is saved; "" saves nothing
	Credentials bool            // load password hashes too
	Log         *slog.Logger
	Metrics     prometheus.Registerer

	connected prometheus.Gauge
	file      saver
}

// Run follows the database until ctx ends, then saves a last time. It returns
// only an error of reading the file at start; trouble with PostgreSQL is
// logged, counted and tried again.
func (f *Follower) Run(ctx context.Context) error {
	f.connected = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "understudy_directory_connected", Help: "1 while the directory follows PostgreSQL, 0 while it answers from memory alone."})
	version := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "understudy_directory_version", Help: "Newest directory change in memory."},
		func() float64 { return float64(f.Directory.Version()) })
	if f.Metrics != nil {
		f.Metrics.MustRegister(f.connected, version)
	}
	f.file.dir, f.file.path = f.Directory, f.File
	defer func() { f.saved(f.file.finish()) }()
	for wait := 100 * time.Millisecond; ctx.Err() == nil; wait = min(2*wait, maxRetry) {
		before := time.Now()
		err := f.follow(ctx)
		f.connected.Set(0)
		if ctx.Err() != nil {
			break
		}
		f.Log.Warn("directory does not follow PostgreSQL; answering from memory", "error", err, "loaded", f.Directory.Loaded())
		if time.Since(before) > maxRetry {
			wait = 100 * time.Millisecond
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	return nil
}

// follow listens on one connection and applies changes until it breaks.
func (f *Follower) follow(ctx context.Context) error {
	dial, cancel := context.WithTimeout(ctx, dialTimeout)
	conn, err := pgx.ConnectConfig(dial, f.Config)
	cancel()
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), dialTimeout)
		defer cancel()
		conn.Close(end) //nolint:errcheck // best effort
	}()
	err = unlessSilent(ctx, func(ctx context.Context, _ func()) error {
		_, err := conn.Exec(ctx, "LISTEN "+channel)
		return err
	})
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	for {
		if err := f.refresh(ctx, conn); err != nil {
			return err
		}
		f.connected.Set(1)
		f.saved(f.file.save())
		if err := f.wait(ctx, conn); err != nil {
			return err
		}
	}
}

// wait returns at a notification, or after pollInterval, or sooner when a
// save is due.
func (f *Follower) wait(ctx context.Context, conn *pgx.Conn) error {
	timeout := pollInterval
	if f.file.unsaved() {
		timeout = saveInterval
	}
	w, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, err := conn.WaitForNotification(w)
	if err != nil && ctx.Err() == nil && errors.Is(w.Err(), context.DeadlineExceeded) && !conn.IsClosed() {
		return nil
	}
	if err != nil {
		return fmt.Errorf("wait for changes: %w", err)
	}
	return nil
}

func (f *Follower) refresh(ctx context.Context, conn *pgx.Conn) error {
	d := f.Directory
	d.mu.RLock()
	seen, loaded := d.past, d.loaded
	d.mu.RUnlock()
	var c *Change
	err := unlessSilent(ctx, func(ctx context.Context, alive func()) (err error) {
		c, err = read(ctx, conn, seen, f.Credentials, alive)
		return err
	})
	if err != nil {
		return err
	}
	if c.Full && loaded {
		f.Log.Warn("database has another past than the directory, as after a restore; loaded anew", "version", c.Version, "before", seen.version)
	}
	if !c.Empty() {
		d.Apply(c)
		f.file.add(c)
	}
	return nil
}

// errSilent ends what PostgreSQL does not answer.
var errSilent = fmt.Errorf("PostgreSQL says nothing for %v", silence)

// unlessSilent does what takes PostgreSQL any time, as long as alive is called
// often enough: a million mailboxes take a minute where all is busy.
func unlessSilent(ctx context.Context, do func(ctx context.Context, alive func()) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(silence, func() { cancel(errSilent) })
	defer timer.Stop()
	err := do(ctx, func() { timer.Reset(silence) })
	if err != nil && errors.Is(context.Cause(ctx), errSilent) {
		return errSilent
	}
	return err
}

// saved logs that the directory could not be saved.
func (f *Follower) saved(err error) {
	if err != nil {
		f.Log.Error("directory not saved: a restart without PostgreSQL would answer from an older one", "error", err)
	}
}
