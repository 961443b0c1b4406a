package store

import (
	"fmt"
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"understudy/internal/wait"
)

// as is a store as another role.
func as(t *testing.T, role string, s *Store) *Store {
	t.Helper()
	cfg := s.Pool.Config()
	cfg.ConnConfig.User = role
	o, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.Close)
	return o
}

// alone is a store with one connection, whose statements are prepared once.
func alone(t *testing.T, s *Store) *Store {
	t.Helper()
	cfg := s.Pool.Config()
	cfg.MaxConns = 1
	one, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(one.Close)
	return one
}

// waitForLock waits until so many connections to the database wait for a lock.
func waitForLock(t *testing.T, s *Store, want int) {
	t.Helper()
	wait.Until(t, "connections wait for a lock", func() error {
		var n int
		err := s.Pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&n)
		if err == nil && n < want {
			err = fmt.Errorf("%d do, not %d", n, want)
		}
		return err
	})
}

// TestSearchWhilePostingsMove: whichever table a search has read when they
// move, it finds each message once.
func TestSearchWhilePostingsMove(t *testing.T) {
	t.Parallel()
	for _, table := range []string{"posting_recent", "posting_20260301"} {
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			m := sample(5)
			if err := s.IndexBatch(t.Context(), IndexBatch{Segment: "s1", To: 50, Messages: m}); err != nil {
				t.Fatal(err)
			}
			searcher := alone(t, s)
			f := MessageFilter{Access: Access{All: true}, Query: parse(t, `"text word3" OR word4`)}
			if rows, _, err := searcher.SearchMessages(t.Context(), f); err != nil || len(rows) != 2 {
				t.Fatalf("%d rows, %v", len(rows), err)
			}
			found := make(chan int, 1)
			err := as(t, "understudy", s).tx(t.Context(), func(tx pgx.Tx) error {
				if _, err := tx.Exec(t.Context(), `LOCK TABLE `+table+` IN ACCESS EXCLUSIVE MODE`); err != nil {
					return err
				}
				go func() {
					rows, _, err := searcher.SearchMessages(t.Context(), f)
					if err != nil {
						t.Error(err)
					}
					found <- len(rows)
				}()
				waitForLock(t, s, 1)
				return moveRecent(t.Context(), tx, day.Truncate(24*time.Hour))
			})
			if err != nil {
				t.Fatal(err)
			}
			if n := <-found; n != 2 {
				t.Errorf("%d found", n)
			}
		})
	}
}

// threeDays is an index of three days, and a search that looks at the older two
// at once.
func threeDays(t *testing.T) (s *Store, search func() (int, error)) {
	t.Helper()
	s = newStore(t)
	m := sample(3)
	m[1].Received, m[2].Received = day.AddDate(0, 0, 1), day.AddDate(0, 0, 2)
	if err := s.IndexBatch(t.Context(), IndexBatch{Segment: "s1", To: 50, Messages: m}); err != nil {
		t.Fatal(err)
	}
	slow := "DO $$ BEGIN EXECUTE format('ALTER ROLE understudy_app IN DATABASE %I SET deadlock_timeout = 10000', current_database()); END $$"
	if _, err := as(t, "postgres", s).Pool.Exec(t.Context(), slow); err != nil {
		t.Fatal(err)
	}
	searcher := alone(t, s)
	search = func() (int, error) {
		rows, _, err := searcher.SearchMessages(t.Context(), MessageFilter{Access: Access{All: true}, Query: parse(t, "text")})
		return len(rows), err
	}
	if n, err := search(); err != nil || n != 3 {
		t.Fatalf("%d found, %v", n, err)
	}
	return s, search
}

// TestDroppingWaitsForNoSearch that waits for it: the search has the newer day
// and waits for the older one, then both are dropped.
func TestDroppingWaitsForNoSearch(t *testing.T) {
	t.Parallel()
	s, search := threeDays(t)
	searched, dropped := make(chan error, 1), make(chan error, 1)
	err := as(t, "postgres", s).tx(t.Context(), func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `LOCK TABLE posting_20260301 IN ACCESS EXCLUSIVE MODE`); err != nil {
			return err
		}
		go func() { _, err := search(); searched <- err }()
		waitForLock(t, s, 1)
		go func() { _, err := s.DropIndex(t.Context(), []string{"s1"}); dropped <- err }()
		waitForLock(t, s, 2)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if err := <-searched; err != nil {
		t.Errorf("search: %v", err)
	}
	if err := <-dropped; err != nil {
		t.Errorf("drop: %v", err)
	}
	log, err := os.ReadFile(cluster.Dir + "/log")
	if err != nil {
		t.Fatal(err)
	}
	var database int
	if err := s.Pool.QueryRow(t.Context(), `SELECT oid::int8 FROM pg_database WHERE datname = current_database()`).Scan(&database); err != nil {
		t.Fatal(err)
	}
	if regexp.MustCompile(fmt.Sprintf(`waits for .* of database %d; blocked`, database)).Match(log) {
		t.Error("they waited for each other")
	}
}

// TestSearchAfterDeadlock: a search that PostgreSQL ends because it and another
// wait for each other begins again.
func TestSearchAfterDeadlock(t *testing.T) {
	t.Parallel()
	s, search := threeDays(t)
	n, err := deadlocked(t, s, `LOCK TABLE message_20260301 IN ACCESS EXCLUSIVE MODE`, `LOCK TABLE posting_20260301 IN ACCESS EXCLUSIVE MODE`, search)
	if err != nil || n != 3 {
		t.Errorf("%d found, %v", n, err)
	}
}

// TestDroppingAfterDeadlock: so does a DropIndex.
func TestDroppingAfterDeadlock(t *testing.T) {
	t.Parallel()
	s, search := threeDays(t)
	n, err := deadlocked(t, s, `LOCK TABLE message_mailbox IN ACCESS SHARE MODE`, `LOCK TABLE message IN ACCESS SHARE MODE`, func() (int, error) {
		n, err := s.DropIndex(t.Context(), []string{"s1"})
		return int(n), err
	})
	if err != nil || n != 3 {
		t.Errorf("%d dropped, %v", n, err)
	}
	if n, err := search(); err != nil || n != 0 {
		t.Errorf("%d found, %v", n, err)
	}
}

// deadlocked calls f while a transaction that holds the first lock takes the
// second as soon as f waits, so that PostgreSQL has to end f. It returns what f
// does.
func deadlocked(t *testing.T, s *Store, first, second string, f func() (int, error)) (n int, err error) {
	t.Helper()
	done := make(chan struct{})
	failed := as(t, "postgres", s).tx(t.Context(), func(tx pgx.Tx) error {
		for _, sql := range []string{`SET LOCAL deadlock_timeout = '10min'`, first} {
			if _, err := tx.Exec(t.Context(), sql); err != nil {
				return err
			}
		}
		go func() {
			defer close(done)
			n, err = f()
		}()
		waitForLock(t, s, 1)
		_, err := tx.Exec(t.Context(), second)
		return err
	})
	if failed != nil {
		t.Fatal(failed)
	}
	<-done
	return n, err
}
