package leader

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"understudy/internal/pgtest"
	"understudy/internal/wait"
)

// TestOneLeader starts three workers on one PostgreSQL, ends the leader's
// connection, stops and starts the server, and ends the workers: there is
// never more than one leader, and always one again.
func TestOneLeader(t *testing.T) {
	t.Parallel()
	cluster, err := pgtest.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Remove()
	cfg, err := pgx.ParseConfig(cluster.URL("understudy_app", "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	var leading, terms atomic.Int32
	var wg sync.WaitGroup
	stop := make([]context.CancelFunc, 3)
	var leader atomic.Int32 // which of them leads, or led last
	for i := range stop {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stop[i] = cancel
		e := &Elector{Config: cfg, Log: slog.New(slog.DiscardHandler)}
		wg.Go(func() {
			e.Run(ctx, func(ctx context.Context) {
				leader.Store(int32(i))
				if n := leading.Add(1); n != 1 {
					t.Errorf("%d leaders at once", n)
				}
				terms.Add(1)
				<-ctx.Done()
				leading.Add(-1)
			})
		})
	}
	wait.True(t, "a first leader", func() bool { return terms.Load() > 0 })

	admin, err := pgx.Connect(t.Context(), cluster.URL("postgres", "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	before := terms.Load()
	_, err = admin.Exec(t.Context(), `SELECT pg_terminate_backend(l.pid) FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted`)
	if err != nil {
		t.Fatal(err)
	}
	wait.True(t, "a leader after the connection was lost", func() bool { return terms.Load() > before && leading.Load() == 1 })

	if err := cluster.StopServer(); err != nil {
		t.Fatal(err)
	}
	wait.True(t, "no leader without PostgreSQL", func() bool { return leading.Load() == 0 })
	if err := cluster.StartServer(); err != nil {
		t.Fatal(err)
	}
	wait.True(t, "a leader after PostgreSQL is back", func() bool { return leading.Load() == 1 })

	before = terms.Load()
	stop[leader.Load()]()
	wait.True(t, "another leader after the first ended", func() bool { return terms.Load() > before && leading.Load() == 1 })
	for _, s := range stop {
		s()
	}
	wg.Wait()
	if leading.Load() != 0 {
		t.Error("a leader outlives its worker")
	}
}
