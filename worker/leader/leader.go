// Package leader lets one of several workers be the active one: the holder of
// a PostgreSQL session advisory lock (PostgreSQL, "Advisory Locks") on a
// connection of its own.
//
// The lock lives as long as the connection. When that is lost, or PostgreSQL
// goes away, this worker stops being the leader at once and tries again. A
// worker that vanished keeps the lock until the server's TCP keepalive finds
// out, which is later than the worker itself notices: on one server there are
// never two leaders. After a failover to another server the lock is free at
// once, while the old leader may notice the silence of its connection only
// after 5 s, and lead until then. So whatever a leader writes must bear two:
// a switch of a mode is one transaction that looks at the present mode first.
package leader

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
	lockClass, lockID = 7526843, 3 // of all our locks, and this one's own (see internal/store/migrations)

	retryEvery   = time.Second
	checkEvery   = 2 * time.Second
	checkTimeout = 3 * time.Second
)

// keepalive makes the server notice a vanished client after 5 + 3*3 s, when
// the client has noticed the loss itself (checkEvery + checkTimeout).
var keepalive = map[string]string{"tcp_keepalives_idle": "5", "tcp_keepalives_interval": "3", "tcp_keepalives_count": "3",
	"application_name": "understudy-worker leader"}

// Elector competes for the lead.
type Elector struct {
	Config *pgx.ConnConfig
	Log    *slog.Logger
	Gauge  prometheus.Gauge // 1 while leading; may be nil
}

// Run calls lead whenever this worker becomes the leader, with a context that
// ends when it no longer is; lead must then return soon. Run returns when ctx
// has ended and lead has returned.
func (e *Elector) Run(ctx context.Context, lead func(ctx context.Context)) {
	var last string
	for ctx.Err() == nil {
		err := e.compete(ctx, lead)
		if err != nil && ctx.Err() == nil && err.Error() != last {
			last = err.Error()
			e.Log.Warn("not the leader: PostgreSQL does not answer", "error", err)
		}
		if err == nil {
			last = ""
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryEvery):
		}
	}
}

// compete tries to get the lock on a new connection, again and again, and
// leads while it holds it.
func (e *Elector) compete(ctx context.Context, lead func(ctx context.Context)) error {
	conn, err := e.connect(ctx)
	if err != nil {
		return err
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		conn.Close(end) //nolint:errcheck // the lock goes with the connection
	}()
	for {
		var got bool
		try, cancel := context.WithTimeout(ctx, checkTimeout)
		err := conn.QueryRow(try, `SELECT pg_try_advisory_lock($1, $2)`, lockClass, lockID).Scan(&got)
		cancel()
		if err != nil {
			return fmt.Errorf("ask for the lead: %w", err)
		}
		if got {
			return e.hold(ctx, conn, lead)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retryEvery):
		}
	}
}

func (e *Elector) connect(ctx context.Context) (*pgx.Conn, error) {
	cfg := e.Config.Copy()
	cfg.ConnectTimeout = checkTimeout
	for k, v := range keepalive {
		cfg.RuntimeParams[k] = v
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return conn, nil
}

// hold runs lead and watches the connection.
func (e *Elector) hold(ctx context.Context, conn *pgx.Conn, lead func(ctx context.Context)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	e.set(true)
	e.Log.Info("this worker leads")
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer cancel() // if lead returns by itself, the lead is given up
		lead(ctx)
	}()
	err := watch(ctx, conn)
	cancel()
	e.set(false)
	<-done
	e.Log.Info("this worker no longer leads", "error", err)
	return err
}

// watch returns when the connection is lost or ctx ends. Waiting for a
// notification that never comes notices a closed connection at once; a query
// now and then notices one that is silent.
func watch(ctx context.Context, conn *pgx.Conn) error {
	for ctx.Err() == nil {
		wait, cancel := context.WithTimeout(ctx, checkEvery)
		_, err := conn.WaitForNotification(wait)
		late := errors.Is(wait.Err(), context.DeadlineExceeded)
		cancel()
		if err != nil && (!late || conn.IsClosed()) && ctx.Err() == nil {
			return fmt.Errorf("watch the lead: %w", err)
		}
		ask, cancel := context.WithTimeout(ctx, checkTimeout)
		_, err = conn.Exec(ask, "SELECT 1")
		cancel()
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("watch the lead: %w", err)
		}
	}
	return nil
}

func (e *Elector) set(leading bool) {
	if e.Gauge == nil {
		return
	}
	if leading {
		e.Gauge.Set(1)
	} else {
		e.Gauge.Set(0)
	}
}
