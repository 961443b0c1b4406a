// Package lookups measures policyd with a large directory: lookups through
// Postfix's own client, postmap(1), against Postfix's pgsql: and lmdb: maps of
// the same keys, and what the directory costs in memory and in time.
package lookups

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"understudy/internal/bench"
	"understudy/internal/bench/rig"
	"understudy/internal/stack"
	"understudy/internal/wait"
)

// world is a policyd with a full directory.
type world struct {
	e                  *bench.Env
	stack              *stack.Stack
	db                 *pgx.Conn // as the owner of the schema
	domains, mailboxes int
	socket             string // of policyd's socketmap
	name               string // of the case
}

// Run measures scale, then lookups.
func Run(ctx context.Context, e *bench.Env) (err error) {
	if err := stack.InstallPackages(ctx, e.Progress, "postfix-pgsql", "postfix-lmdb"); err != nil {
		return err
	}
	s, err := e.Stack(ctx, nil, stack.Postgres, stack.Admin, stack.Policyd)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Down(context.WithoutCancel(ctx))) }()
	w := &world{e: e, stack: s, domains: e.Size(100_000, 1000), mailboxes: e.Size(1_000_000, 10_000),
		socket: filepath.Join(s.Dir(), "postfix", "queue", "sidecar", "socketmap")}
	w.name = fmt.Sprintf("%d domains, %d mailboxes", w.domains, w.mailboxes)
	if err := w.connect(ctx); err != nil {
		return err
	}
	defer func() { w.db.Close(context.WithoutCancel(ctx)) }() //nolint:errcheck // best effort
	if err := s.Stop(ctx, stack.Policyd); err != nil {
		return err
	}
	e.Say("filling the directory: %s", w.name)
	if err := w.fill(ctx); err != nil {
		return err
	}
	for _, part := range []func(context.Context) error{w.load, w.changes, w.compare, w.latency, w.restart} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) connect(ctx context.Context) (err error) {
	w.db, err = pgx.Connect(ctx, w.stack.Info.Postgres)
	return err
}

// fill makes the domains and mailboxes, each domain with as many, and a table
// with an answer for each mailbox, as a site would make it for pgsql: maps.
func (w *world) fill(ctx context.Context) error {
	// Row by row the triggers would take most of the time.
	const domains = `ALTER TABLE domain DISABLE TRIGGER USER;
		INSERT INTO domain (name, primaries, activation, version)
		SELECT 'customer' || i || '.example', ARRAY['192.0.2.' || i %% 250 || ':25'], 'automatic', nextval('directory_version') FROM generate_series(0, %d - 1) i;
		ALTER TABLE domain ENABLE TRIGGER USER; ANALYZE domain`
	const mailboxes = `ALTER TABLE mailbox DISABLE TRIGGER USER;
		INSERT INTO mailbox (domain_id, address, name, version)
		SELECT d.id, 'person' || i || '@' || d.name, 'Person Number ' || i, nextval('directory_version')
		FROM generate_series(0, %d - 1) i JOIN domain d ON d.name = 'customer' || i %% %d || '.example';
		ALTER TABLE mailbox ENABLE TRIGGER USER`
	const answers = `CREATE TABLE answer (address text PRIMARY KEY, transport text NOT NULL);
		INSERT INTO answer SELECT m.address, 'relay-auto:[192.0.2.' || substring(d.name FROM '[0-9]+')::int % 250 || ']:25'
		FROM mailbox m JOIN domain d ON d.id = m.domain_id WHERE d.name LIKE 'customer%';
		ANALYZE`
	if _, err := w.db.Exec(ctx, fmt.Sprintf(domains, w.domains)); err != nil {
		return fmt.Errorf("make domains: %w", err)
	}
	if _, err := w.db.Exec(ctx, fmt.Sprintf(mailboxes, w.mailboxes, w.domains)); err != nil {
		return fmt.Errorf("make mailboxes: %w", err)
	}
	if _, err := w.db.Exec(ctx, answers); err != nil {
		return fmt.Errorf("make the table for pgsql: %w", err)
	}
	return nil
}

// address is the i-th mailbox.
func (w *world) address(i int) string {
	return fmt.Sprintf("person%d@customer%d.example", i, i%w.domains)
}

// answer is what policyd says of it.
func (w *world) answer(i int) string {
	return fmt.Sprintf("relay-auto:[192.0.2.%d]:25", i%w.domains%250)
}

// saved is the file from which policyd starts without PostgreSQL.
func (w *world) saved() (string, error) {
	found, err := filepath.Glob(filepath.Join(w.stack.Dir(), "state", "policyd", "directory*"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("saved directory: %v, %w", found, err)
	}
	return found[0], nil
}

// load starts policyd with PostgreSQL alone.
func (w *world) load(ctx context.Context) error {
	if file, err := w.saved(); err == nil {
		if err := os.Remove(file); err != nil {
			return err
		}
	}
	w.e.Say("policyd loads it from PostgreSQL")
	begin := time.Now()
	if err := w.stack.Start(ctx, stack.Policyd); err != nil {
		return err
	}
	took := time.Since(begin)
	if err := w.check(); err != nil {
		return err
	}
	w.add("loaded from PostgreSQL after", took.Seconds(), "s")
	begin = time.Now()
	err := wait.For(ctx, 2*time.Minute, rig.Poll, func() error { _, err := w.saved(); return err })
	if err != nil {
		return err
	}
	w.add("and saved after a further", time.Since(begin).Seconds(), "s")
	return w.memory("after loading")
}

// restart starts policyd without PostgreSQL.
func (w *world) restart(ctx context.Context) error {
	w.e.Say("policyd restarts without PostgreSQL")
	w.db.Close(ctx) //nolint:errcheck // it goes away
	begin := time.Now()
	if err := w.stack.Stop(ctx, stack.Policyd); err != nil {
		return err
	}
	w.add("stopped, and saved, after", time.Since(begin).Seconds(), "s")
	if err := w.stack.Stop(ctx, stack.Postgres); err != nil {
		return err
	}
	begin = time.Now()
	if err := w.stack.Start(ctx, stack.Policyd); err != nil {
		return err
	}
	took := time.Since(begin)
	if err := w.check(); err != nil {
		return err
	}
	w.add("started without PostgreSQL after", took.Seconds(), "s")
	if file, err := w.saved(); err != nil {
		return err
	} else if st, err := os.Stat(file); err != nil {
		return err
	} else {
		w.add("from a file of", float64(st.Size())/1e6, "MB")
	}
	return w.memory("after such a start")
}

// memory reports what policyd holds.
func (w *world) memory(when string) error {
	pid, err := w.stack.PID(stack.Policyd)
	if err != nil {
		return err
	}
	m, err := rig.MemoryOf(pid)
	if err != nil {
		return err
	}
	w.add("policyd's memory "+when, m.Now, "MB")
	w.add("its peak until then", m.Peak, "MB")
	return nil
}

func (w *world) add(metric string, value float64, unit string) {
	w.e.Report.Add(w.e.Result(w.name, metric, value, unit))
}

// check asks for the last mailbox.
func (w *world) check() error {
	c, err := rig.DialSocketmap(w.socket)
	if err != nil {
		return err
	}
	defer c.Close()
	got, err := c.Lookup("transport", w.address(w.mailboxes-1))
	if want := "OK " + w.answer(w.mailboxes-1); err != nil || got != want {
		return fmt.Errorf("policyd answers %q, %w; want %q", got, err, want)
	}
	return nil
}
