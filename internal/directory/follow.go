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
	readTimeout  = 5 * time.Minute // a million mailboxes take seconds, and a minute where all is busy
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
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // best effort
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
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
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	d := f.Directory
	d.mu.RLock()
	epoch, version := d.epoch, d.version
	d.mu.RUnlock()
	c, err := read(ctx, conn, epoch, version, f.Credentials)
	if err != nil {
		return err
	}
	if !c.Empty() {
		d.Apply(c)
		f.file.add(c)
	}
	return nil
}

// saved logs that the directory could not be saved.
func (f *Follower) saved(err error) {
	if err != nil {
		f.Log.Error("directory not saved: a restart without PostgreSQL would answer from an older one", "error", err)
	}
}
