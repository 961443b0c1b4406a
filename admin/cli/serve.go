package cli

import (
	"fmt"
	"net"

	"golang.org/x/sync/errgroup"

	"understudy/admin/web"
	"understudy/internal/observe"
	"understudy/internal/store"
)

type serveCmd struct{}

// Run serves the website until told to stop. It starts, and goes on, without
// PostgreSQL: pages then say so.
func (serveCmd) Run(e *env) error {
	c, err := loadConfig(e.config)
	if err != nil {
		return err
	}
	log := observe.Logger("admin", c.LogLevel)
	pool, err := c.Database.PoolConfig()
	if err != nil {
		return err
	}
	s, err := store.New(e.ctx, pool)
	if err != nil {
		return err
	}
	defer s.Close()
	reader, err := c.archive()
	if err != nil {
		return err
	}
	reg := observe.Registry()
	site, err := web.New(web.Options{Store: s, Log: log, Metrics: reg, PublicURL: c.PublicURL, WebmailURL: c.WebmailURL,
		IMAPAddress: c.IMAPAddress, SubmissionAddress: c.SubmissionAddress, SessionLifetime: c.SessionLifetime,
		Open: reader.ReadRecord})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("listen for the website: %w", err)
	}
	g, ctx := errgroup.WithContext(e.ctx)
	g.Go(func() error { return observe.ServeHTTP(ctx, l, site.Handler()) })
	g.Go(func() error { return observe.Serve(ctx, c.MetricsListen, reg, site.Health) })
	g.Go(func() error { site.Clean(ctx); return nil })
	log.Info("serving", "address", l.Addr().String(), "url", c.PublicURL)
	return g.Wait()
}
