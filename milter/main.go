// Command understudy-milter archives covered mail before Postfix accepts it.
//
// It speaks the Sendmail milter protocol (version 6 options, as in
// https://www.postfix.org/MILTER_README.html) with smtpd and cleanup. A
// message with a covered party is appended to the archive log and synced, then
// let through with an X-Understudy-Id header; any other message passes
// untouched. It rejects nothing for good: on any trouble (directory never
// loaded, disk full or slow, message over the bound) it answers 4xx and the
// client tries again. When it is gone, Postfix itself answers 451
// (milter_default_action = tempfail). When PostgreSQL is down it decides from
// the directory in memory, or from its saved file.
package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"understudy/internal/archive"
	"understudy/internal/daemon"
	"understudy/internal/directory"
	"understudy/internal/listen"
	"understudy/internal/observe"
)

func main() { daemon.Main("milter", defaultConfig(), run) }

// run serves until ctx ends, lets messages at their end finish, and seals the
// archive.
func run(ctx context.Context, cfg *Config, log *slog.Logger) (err error) {
	slog.SetDefault(log) // go-milter writes to the standard logger
	reg := observe.Registry()
	pool, err := cfg.Database.PoolConfig()
	if err != nil {
		return err
	}
	// First: who connects while a large directory is loaded waits, and is not
	// refused by Postfix itself.
	socket, err := listen.Open(cfg.Listen)
	if err != nil {
		return err
	}
	defer socket.Close()
	saved := filepath.Join(cfg.StateDirectory, "directory.json")
	dir := directory.Open(saved, log)
	recipients, err := archive.ParseRecipients(cfg.Recipients)
	if err != nil {
		return err
	}
	writer, err := archive.OpenWriter(cfg.ArchiveDirectory, archive.Options{MaxBytes: cfg.SegmentMaxBytes,
		MaxAge: cfg.SegmentMaxAge, SpoolDir: cfg.StateDirectory, Recipients: recipients, Log: log, Metrics: reg})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, writer.Close()) }()
	srv := &server{dir: dir, archive: writer, metrics: newMetrics(reg), log: log,
		spoolDir: cfg.StateDirectory, maxBytes: cfg.MaxMessageBytes}
	follower := &directory.Follower{Directory: dir, Config: pool.ConnConfig, File: saved, Log: log, Metrics: reg}

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return observe.Serve(ctx, cfg.MetricsListen, reg, srv.health) })
	group.Go(func() error { return follower.Run(ctx) })
	group.Go(func() error { return srv.serve(ctx, socket, cfg.MaxConnections) })
	log.Info("serving", "listen", cfg.Listen, "archive", cfg.ArchiveDirectory, "encrypted", len(recipients) > 0, "directory_loaded", dir.Loaded())
	return group.Wait()
}
