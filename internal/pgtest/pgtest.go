// Package pgtest starts a real PostgreSQL for tests: one throw-away cluster
// for a test process, one database for a test.
package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"understudy/internal/freeport"
)

// Roles are the database roles of an installation (docs/architecture.md).
var Roles = []string{"understudy", "understudy_app", "understudy_mail", "understudy_auth"}

// Cluster is a running PostgreSQL. Clients connect over loopback with trust
// authentication, as any role.
type Cluster struct {
	Dir  string
	Port int

	bin       string
	cred      *syscall.Credential
	databases atomic.Int64
	template  sync.Once // makes the database that Migrated copies
	failed    error     // of making it
}

// Main runs a package's tests with a cluster: call it from TestMain with the
// variable that the tests use.
func Main(m *testing.M, cluster **Cluster) {
	os.Exit(func() int {
		c, err := Start()
		if err != nil {
			fmt.Fprintln(os.Stderr, "start PostgreSQL for tests:", err)
			return 1
		}
		defer c.Remove()
		*cluster = c
		return m.Run()
	}())
}

// Start makes a cluster below the temporary directory and starts it.
func Start() (*Cluster, error) {
	bins, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil || len(bins) == 0 {
		return nil, errors.New("PostgreSQL is not installed (apt-get install postgresql)")
	}
	c := &Cluster{bin: slices.Max(bins)}
	if c.Dir, err = os.MkdirTemp("", "pgtest-"); err != nil {
		return nil, err
	}
	if err := c.prepare(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(c.Dir))
	}
	if err := c.StartServer(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(c.Dir))
	}
	for _, role := range Roles {
		if err := c.exec("postgres", "CREATE ROLE "+role+" LOGIN"); err != nil {
			return nil, errors.Join(err, c.Remove())
		}
	}
	return c, nil
}

// prepare runs initdb, as the postgres user when we are root (PostgreSQL
// refuses to run as root).
func (c *Cluster) prepare() error {
	if os.Geteuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			return err
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		c.cred = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(c.Dir, uid, gid); err != nil {
			return err
		}
	}
	var err error
	if c.Port, err = freeport.Port(); err != nil {
		return err
	}
	return c.command("initdb", "-D", c.Dir+"/data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N")
}

// StartServer starts the server and waits until it answers.
func (c *Cluster) StartServer() error {
	opts := fmt.Sprintf("-p %d -k %s -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=200 -c full_page_writes=off", c.Port, c.Dir)
	return c.command("pg_ctl", "-D", c.Dir+"/data", "-l", c.Dir+"/log", "-w", "-t", "180", "-o", opts, "start")
}

// StopServer stops the server at once; clients lose their connections.
func (c *Cluster) StopServer() error {
	return c.command("pg_ctl", "-D", c.Dir+"/data", "-m", "immediate", "-w", "-t", "180", "stop")
}

// Remove stops the server and removes its files.
func (c *Cluster) Remove() error { return errors.Join(c.StopServer(), os.RemoveAll(c.Dir)) }

func (c *Cluster) command(name string, args ...string) error {
	cmd := exec.Command(filepath.Join(c.bin, name), args...)
	cmd.Dir = c.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.cred}
	// A file, not a pipe: the server that pg_ctl leaves behind would hold a pipe open.
	out, err := os.CreateTemp(c.Dir, "out-")
	if err != nil {
		return err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(out.Name())
		return fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(text))
	}
	return nil
}

// URL is how role reaches a database of the cluster.
func (c *Cluster) URL(role, database string) string {
	return fmt.Sprintf("postgres://%s@127.0.0.1:%d/%s", role, c.Port, database)
}

// Database makes an empty database owned by the role understudy and returns
// its name; it is dropped when the test ends.
func (c *Cluster) Database(tb testing.TB) string {
	tb.Helper()
	name := fmt.Sprintf("test_%d", c.databases.Add(1))
	if err := c.create(name, "template1"); err != nil {
		tb.Fatal(err)
	}
	c.dropAtEnd(tb, name)
	return name
}

// Migrated is Database with the schema that migrate makes, given the URL of
// the schema's owner. It runs once for a cluster; each test gets a copy.
func (c *Cluster) Migrated(tb testing.TB, migrate func(url string) error) string {
	tb.Helper()
	const template = "migrated"
	c.template.Do(func() {
		if c.failed = c.create(template, "template1"); c.failed == nil {
			c.failed = migrate(c.URL("understudy", template))
		}
	})
	if c.failed != nil {
		tb.Fatal("make the template database: ", c.failed)
	}
	name := fmt.Sprintf("test_%d", c.databases.Add(1))
	if err := c.create(name, template); err != nil {
		tb.Fatal(err)
	}
	c.dropAtEnd(tb, name)
	return name
}

func (c *Cluster) create(name, template string) error {
	// FILE_COPY is the fast strategy for a small template with fsync off.
	if err := c.exec("postgres", fmt.Sprintf("CREATE DATABASE %s OWNER understudy TEMPLATE %s STRATEGY file_copy", name, template)); err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	return c.exec(name, "ALTER SCHEMA public OWNER TO understudy")
}

func (c *Cluster) dropAtEnd(tb testing.TB, name string) {
	tb.Cleanup(func() {
		if err := c.exec("postgres", "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			tb.Logf("drop %s: %v", name, err)
		}
	})
}

func (c *Cluster) exec(database, sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.URL("postgres", database))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql)
	return err
}
