package main

import (
	"archive/tar"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy/internal/archive/shiptest"
	"understudy/internal/delivery/postfixtest"
	"understudy/internal/wait"
)

// verified is what "archive verify" and "archive reindex" say.
type verified struct {
	OK        bool  `json:"ok"`
	Segments  int   `json:"segments"`
	Records   int   `json:"records"`
	Rows      int   `json:"index_rows"`
	Shipped   int   `json:"rows_of_shipped_segments"`
	Elsewhere int   `json:"rows_of_other_gateways"`
	Dropped   int   `json:"dropped_rows"`
	Missing   int   `json:"missing_records"`
	Messages  int   `json:"messages"`
	Done      bool  `json:"done"`
	Unread    int64 `json:"unreadable"`
}

// TestShippedArchive: the real worker and the command line with an S3 server.
// Mail is indexed, shipped, and leaves this machine; it is searched, shown,
// exported, delivered again and verified from the bucket; the index is dropped
// and comes back from there, and at last the whole database.
func TestShippedArchive(t *testing.T) {
	t.Parallel()
	primary := postfixtest.Start(t, postfixtest.Options{})
	g := gateways(t, shiptest.Start(t).Bucket(t), "gw1")[0]
	g.exec(`INSERT INTO domain (name, primaries) VALUES ('example.test', $1)`, []string{primary.SMTP})
	g.exec(`INSERT INTO mailbox (domain_id, address) SELECT id, 'ana@example.test' FROM domain`)
	g.add(3, 5)
	g.start(time.Second)
	wait.True(t, "all segments to be in the bucket alone", func() bool { return g.local() == 0 })
	before, n := g.rows()
	if n != len(g.sent) {
		t.Fatalf("%d messages indexed, want %d:\n%s", n, len(g.sent), before)
	}

	var found []struct{ ID string }
	if g.answer(&found, "archive", "search", "shipped", "from:bruno"); len(found) != n {
		t.Errorf("%d messages found, want %d", len(found), n)
	}
	for id, body := range g.sent {
		if got := g.admin("archive", "show", id.String()); got != body {
			t.Errorf("message %s: %q, want %q", id, got, body)
		}
	}
	if got := g.exported(""); got != n {
		t.Errorf("%d messages exported, want %d", got, n)
	}
	if got := g.exported("subject:number"); got != n {
		t.Errorf("%d messages exported by a search, want %d", got, n)
	}
	g.admin("archive", "redeliver", "--query", "shipped", "--wait")
	primary.Await("ana@example.test", n)
	g.verified(n)

	var r verified
	if g.answer(&r, "archive", "reindex", "--all"); r.Dropped != n || r.Messages != n || !r.Done {
		t.Errorf("reindex --all: %+v", r)
	}
	g.same(before)
	g.exec(`DELETE FROM message WHERE id = (SELECT min(id::text)::uuid FROM message)`)
	r = verified{}
	if g.answer(&r, "archive", "reindex", "--missing"); r.Missing != 1 || !r.Done {
		t.Errorf("reindex --missing: %+v", r)
	}
	g.same(before)

	g.stop()
	g.db = g.cluster.Database(t) // all that PostgreSQL had is lost
	g.migrate()
	g.start(time.Second)
	wait.True(t, "the index to come back from the bucket", func() bool { _, got := g.rows(); return got == n })
	g.same(before)
	g.verified(n)
}

// exported exports what a query finds, all without one, and counts it.
func (g *gateway) exported(query string) (n int) {
	g.t.Helper()
	path := filepath.Join(g.t.TempDir(), "export.tar")
	args := []string{"archive", "export", "--format", "tar", "-o", path}
	if query != "" {
		args = append(args, query)
	}
	g.admin(args...)
	f, err := os.Open(path)
	if err != nil {
		g.t.Fatal(err)
	}
	defer f.Close()
	for r := tar.NewReader(f); ; n++ {
		if _, err := r.Next(); err == io.EOF {
			return n
		} else if err != nil {
			g.t.Fatal(err)
		}
		if body, err := io.ReadAll(r); err != nil || !strings.Contains(string(body), "shipped words") {
			g.t.Errorf("exported %q, %v", body, err)
		}
	}
}

// verified has the bucket compared with the index, both ways.
func (g *gateway) verified(n int) {
	g.t.Helper()
	var r verified
	if g.answer(&r, "archive", "verify", "--shipped"); !r.OK || r.Records != n || r.Rows != n || r.Shipped != 0 || r.Elsewhere != 0 {
		g.t.Errorf("verify --shipped: %+v, want %d records", r, n)
	}
	r = verified{}
	if g.answer(&r, "archive", "verify"); !r.OK || r.Records != 0 || r.Shipped != n {
		g.t.Errorf("verify: %+v, want %d rows of shipped segments", r, n)
	}
}

func (g *gateway) same(before string) {
	g.t.Helper()
	if after, _ := g.rows(); after != before {
		g.t.Errorf("the index was\n%s\nand is\n%s", before, after)
	}
}

// TestTwoGateways: two machines share a database and a bucket. Each indexes
// its own segments and redelivers out of them, has its own Postfix route again
// what is deferred, neither takes the other's for lost, and both ship.
func TestTwoGateways(t *testing.T) {
	t.Parallel()
	both := gateways(t, shiptest.Start(t).Bucket(t), "gw1", "gw2")
	one, two := both[0], both[1]
	n := 0
	for i, g := range both {
		g.add(2, 3+i)
		g.start(time.Hour)
		n += len(g.sent)
	}
	wait.True(t, "both to be indexed", func() bool { _, got := one.rows(); return got == n })
	before, _ := one.rows()
	for i, g := range both {
		var r verified
		if g.answer(&r, "archive", "verify", "--shipped"); !r.OK || r.Records != len(g.sent) || r.Elsewhere != len(both[1-i].sent) {
			t.Errorf("%s verify: %+v", g.name, r)
		}
		r = verified{}
		if g.answer(&r, "archive", "reindex", "--all"); r.Dropped != len(g.sent) || r.Messages != len(g.sent) {
			t.Errorf("%s reindex --all: %+v", g.name, r)
		}
		g.same(before)
	}
	one.bothWork(two, n)
	for _, g := range both {
		g.stop()
		g.start(time.Second)
	}
	wait.True(t, "all segments to be in the bucket alone", func() bool { return one.local()+two.local() == 0 })
	for _, g := range both {
		g.verified(n)
		for id, body := range two.sent {
			if got := g.admin("archive", "show", id.String()); got != body {
				t.Errorf("%s shows %q, want %q", g.name, got, body)
			}
		}
	}
	one.same(before)
}

// bothWork has all messages delivered again, and the mode changed, while each
// gateway's segments are on its own disk alone.
func (g *gateway) bothWork(other *gateway, n int) {
	g.t.Helper()
	primary := postfixtest.Start(g.t, postfixtest.Options{})
	g.exec(`INSERT INTO domain (name, primaries) VALUES ('example.test', $1)`, []string{primary.SMTP})
	g.exec(`INSERT INTO mailbox (domain_id, address) SELECT id, 'ana@example.test' FROM domain`)
	g.admin("archive", "redeliver", "--query", "shipped", "--wait")
	primary.Await("ana@example.test", n)
	g.exec(`UPDATE domain SET mode = 'emergency', mode_since = now()`)
	for _, each := range []*gateway{g, other} {
		wait.True(g.t, "the queue of "+each.name+" to be flushed", func() bool {
			calls, err := os.ReadFile(each.dir + "/calls")
			return err == nil && strings.Contains(string(calls), "-s example.test\n")
		})
	}
}
