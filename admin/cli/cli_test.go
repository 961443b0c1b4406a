package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/rogpeppe/go-internal/testscript"

	"understudy/internal/archive"
	"understudy/internal/config"
	"understudy/internal/freeport"
	"understudy/internal/pgtest"
	"understudy/internal/store"
)

var cluster *pgtest.Cluster

// withCluster runs the tests, and not the commands that scripts start, with a
// PostgreSQL.
type withCluster struct{ m *testing.M }

func (w withCluster) Run() int {
	c, err := pgtest.Start()
	if err != nil {
		fmt.Fprintln(os.Stderr, "start PostgreSQL for tests:", err)
		return 1
	}
	defer c.Remove()
	cluster = c
	return w.m.Run()
}

func TestMain(m *testing.M) {
	testscript.Main(withCluster{m}, map[string]func(){
		"understudy-admin": func() {
			os.Exit(Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
		},
	})
}

// TestScripts runs testdata/*.txtar, each on an empty database with the
// configuration file $CONFIG.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{Dir: "testdata", Setup: setup, RequireExplicitExec: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"sql": sqlCmd, "archived": archivedCmd, "admin": adminCmd}})
}

// adminCmd is "exec understudy-admin -config $CONFIG ...".
func adminCmd(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec("understudy-admin", append([]string{"-config", ts.Getenv("CONFIG")}, args...)...)
	if (err != nil) != neg {
		ts.Fatalf("admin %v: %v", args, err)
	}
}

func setup(env *testscript.Env) error {
	t := env.T().(testing.TB)
	name := cluster.Database(t)
	archiveDir := filepath.Join(env.WorkDir, "archive")
	yml := fmt.Sprintf("database: {url: %q}\nmigrate_database: {url: %q}\nstate_directory: %s\nmetrics_listen: 127.0.0.1:0\n"+
		"listen: 127.0.0.1:0\npublic_url: http://127.0.0.1\narchive_directory: %s\n",
		cluster.URL("understudy_app", name), cluster.URL("understudy", name), env.WorkDir, archiveDir)
	dead, err := freeport.Address() // nothing listens there
	if err != nil {
		return err
	}
	config := filepath.Join(env.WorkDir, "admin.yml")
	down := strings.ReplaceAll(yml, fmt.Sprintf("127.0.0.1:%d", cluster.Port), dead)
	env.Setenv("CONFIG", config)
	env.Setenv("DOWN", filepath.Join(env.WorkDir, "down.yml"))
	env.Setenv("ARCHIVE", archiveDir)
	env.Setenv("DATABASE", cluster.URL("understudy_app", name))
	return errors.Join(os.Mkdir(archiveDir, 0o700), os.WriteFile(config, []byte(yml), 0o600),
		os.WriteFile(filepath.Join(env.WorkDir, "down.yml"), []byte(down), 0o600))
}

// sqlCmd runs a statement and prints the first column of its first row.
func sqlCmd(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, ts.Getenv("DATABASE"))
	ts.Check(err)
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, strings.Join(args, " "))
	ts.Check(err)
	out, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (string, error) {
		v, err := r.Values()
		return fmt.Sprint(v...), err
	})
	ts.Check(err)
	fmt.Fprintln(ts.Stdout(), strings.Join(out, "\n"))
}

const archivedBody = "From: a@b.test\r\nSubject: invoice 42\r\n\r\nGr\xc3\xbc\xc3\x9fe, no newline"

// archivedCmd archives and indexes a message and sets $ID.
func archivedCmd(ts *testscript.TestScript, _ bool, _ []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	w, err := archive.OpenWriter(ts.Getenv("ARCHIVE"), archive.Options{})
	ts.Check(err)
	spool := archive.NewSpool(ts.Getenv("WORK"), 1<<20)
	_, err = spool.Write([]byte(archivedBody))
	ts.Check(err)
	e := &archive.Envelope{ID: uuid.Must(uuid.NewV7()), Received: time.Now().UTC().Truncate(time.Microsecond), Direction: archive.Inbound,
		Sender: "a@b.test", Recipients: []string{"ana@example.test"}, Mailboxes: []string{"ana@example.test"}}
	ref, err := w.Append(ctx, e, spool)
	ts.Check(err)
	ts.Check(w.Close())
	pool, err := (&config.Database{URL: ts.Getenv("DATABASE")}).PoolConfig()
	ts.Check(err)
	s, err := store.New(ctx, pool)
	ts.Check(err)
	defer s.Close()
	ts.Check(s.IndexBatch(ctx, store.IndexBatch{Segment: ref.Segment, To: ref.Offset + ref.Length, Messages: []store.IndexedMessage{{
		ID: e.ID, Received: e.Received, Direction: "inbound", Sender: e.Sender, Recipients: e.Recipients, Mailboxes: e.Mailboxes,
		Subject: "invoice 42", FromHeader: "a@b.test", Size: int64(len(archivedBody)), Segment: ref.Segment, Offset: ref.Offset, Length: ref.Length, Text: "grüße"}}}))
	ts.Setenv("ID", e.ID.String())
}

func TestArchiveShowIsByteExact(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{Files: []string{"testdata/bytes/show.txtar"}, Setup: setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"archived": archivedCmd, "admin": adminCmd,
			"exactly": func(ts *testscript.TestScript, _ bool, _ []string) {
				if got := ts.ReadFile("stdout"); got != archivedBody {
					ts.Fatalf("got %q", got)
				}
			}}})
}
