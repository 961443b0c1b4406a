package directory_test

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"understudy/internal/directory"
	"understudy/internal/logtest"
	"understudy/internal/wait"
)

// tool runs a program of PostgreSQL on the database, as its superuser.
func (db *database) tool(name string, args ...string) {
	db.t.Helper()
	bins, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil || len(bins) == 0 {
		db.t.Fatal("PostgreSQL is not installed: ", err)
	}
	cmd := exec.CommandContext(db.t.Context(), filepath.Join(slices.Max(bins), name), append(args, "-d", db.cluster.URL("postgres", db.name))...)
	if out, err := cmd.CombinedOutput(); err != nil {
		db.t.Fatalf("%s: %v: %s", name, err, out)
	}
}

// restore puts a dump in the place of what is there, as README says.
func (db *database) restore(dump string) {
	db.t.Helper()
	db.tool("pg_restore", "--clean", "--if-exists", "--single-transaction", dump)
}

// outage is what happens after a dump, and is lost with the database.
func (db *database) outage() {
	db.t.Helper()
	db.exec(`UPDATE domain SET mode = 'emergency', mode_since = now()`)
	db.exec(`INSERT INTO mailbox (domain_id, address) SELECT id, 'carla@example.test' FROM domain`)
	db.exec(`DELETE FROM mailbox WHERE address = 'bruno@example.test'`)
	db.exec(`UPDATE credential SET hash = 'changed'`)
}

// TestRestoredDatabase: a dump is restored while followers run and while they
// do not. However many changes come after it, all hold what the database holds.
func TestRestoredDatabase(t *testing.T) {
	t.Parallel()
	for name, changes := range map[string]int{"older": 0, "one change": 1, "the same version": -1, "newer": 20} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := newDatabase(t, cluster)
			db.example()
			dump, file := filepath.Join(t.TempDir(), "dump"), filepath.Join(t.TempDir(), "directory.json")
			db.tool("pg_dump", "-Fc", "-f", dump)
			db.outage()
			log := &logtest.Buffer{}
			running, _ := db.follow("understudy_auth", directory.Follower{Credentials: true, Log: slog.New(slog.NewTextHandler(log, nil))})
			mail, _ := db.follow("understudy_mail", directory.Follower{})
			stopped, stop := db.follow("understudy_auth", directory.Follower{File: file, Credentials: true})
			wait.True(t, "the first loads", func() bool { return running.Loaded() && mail.Loaded() && stopped.Loaded() })
			stop()
			before := db.newest()

			db.restore(dump)
			db.pool.Reset()
			for i := 0; changes < 0 && db.newest() < before || i < changes; i++ {
				db.exec(`UPDATE mailbox SET name = $1 WHERE address = 'ana@example.test'`, fmt.Sprint("Ana ", i))
			}
			if changes < 0 && db.newest() != before {
				t.Fatalf("version %d, want %d", db.newest(), before)
			}
			db.exec(`NOTIFY directory`) // the next change, or half a minute, would do as well
			fresh, _ := db.follow("understudy_auth", directory.Follower{Credentials: true})
			restarted, _ := db.follow("understudy_auth", directory.Follower{File: file, Credentials: true})
			wait.True(t, "a new follower", fresh.Loaded)
			want := picture(fresh)
			if mailboxOf(t, fresh, "bruno@example.test") == "" || mailboxOf(t, fresh, "carla@example.test") != "" || fresh.Domains()[0].Mode != directory.Normal {
				t.Fatalf("not the dump: %v", want)
			}
			for name, d := range map[string]*directory.Directory{"running": running, "restarted": restarted} {
				wait.True(t, "the restored directory, "+name, func() bool { return cmp.Equal(want, picture(d)) && d.Version() == fresh.Version() })
			}
			wait.True(t, "the restored directory of the mail services", func() bool {
				return mailboxOf(t, mail, "bruno@example.test") != "" && mail.Domains()[0].Mode == directory.Normal
			})
			if !strings.Contains(log.String(), "another past") {
				t.Error("the log does not say that all was loaded anew")
			}
			// And it goes on as ever.
			db.exec(`UPDATE domain SET mode = 'emergency', mode_since = now()`)
			for name, d := range map[string]*directory.Directory{"running": running, "mail": mail, "restarted": restarted} {
				wait.True(t, "a change, "+name, func() bool { return d.Domains()[0].Mode == directory.Emergency })
			}
		})
	}
}

// TestWhileRestoring: between the parts of a restore tables are empty or
// missing. Nobody believes that: mail for domains "not ours" would be refused.
func TestWhileRestoring(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, cluster)
	db.example()
	dump := filepath.Join(t.TempDir(), "dump")
	db.tool("pg_dump", "-Fc", "-f", dump)
	log := &logtest.Buffer{}
	d, _ := db.follow("understudy_mail", directory.Follower{Log: slog.New(slog.NewTextHandler(log, nil))})
	wait.True(t, "the first load", d.Loaded)
	before := d.Domains()[0].ID
	db.tool("psql", "-q", "-c", "DROP SCHEMA public CASCADE; CREATE SCHEMA public AUTHORIZATION understudy; GRANT USAGE ON SCHEMA public TO PUBLIC")
	db.tool("pg_restore", "--section=pre-data", dump)
	looks := func() int { return strings.Count(log.String(), "being restored") }
	for _, section := range []string{"data", "post-data"} {
		seen := looks()
		db.exec(`NOTIFY directory`)
		wait.True(t, "a look before "+section, func() bool { return looks() > seen })
		if mailboxOf(t, d, "ana@example.test") == "" {
			t.Fatalf("before %s nobody is known", section)
		}
		db.tool("pg_restore", "--section="+section, dump)
	}
	db.exec(`UPDATE domain SET retention_days = 30`)
	wait.True(t, "the restored directory", func() bool { return d.Domains()[0].ID == before && d.Domains()[0].RetentionDays == 30 })
}

// TestSavedMark: a restart without a restore loads only what changed since.
func TestSavedMark(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, cluster)
	db.example()
	file := filepath.Join(t.TempDir(), "directory.json")
	_, stop := db.follow("understudy_mail", directory.Follower{File: file})
	wait.True(t, "the file", func() bool { _, err := os.Stat(file); return err == nil })
	stop()
	log := &logtest.Buffer{}
	again, _ := db.follow("understudy_mail", directory.Follower{File: file, Log: slog.New(slog.NewTextHandler(log, nil))})
	db.exec(`UPDATE domain SET retention_days = 30`)
	wait.True(t, "a change", func() bool { return again.Domains()[0].RetentionDays == 30 })
	if strings.Contains(log.String(), "another past") {
		t.Error("a restart loads all anew")
	}
}
