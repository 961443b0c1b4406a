package web

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"understudy/internal/pgtest"
)

// TestDatabaseStopsAndStarts uses a PostgreSQL of its own and really stops it.
func TestDatabaseStopsAndStarts(t *testing.T) {
	t.Parallel()
	own, err := pgtest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { own.Remove() })
	s := newTestSite(t, own)
	v, fresh := s.as(t, "op"), s.visitor(t)
	if err := own.StopServer(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/", "/domains/example.test", "/me", "/healthz"} {
		began := time.Now()
		status, body := v.get(path)
		if status != 503 || !strings.Contains(strings.ToLower(body), "the database does not answer") {
			t.Errorf("%s: %d\n%s", path, status, body)
		}
		if took := time.Since(began); took > requestTime+time.Minute {
			t.Errorf("%s took %s", path, took)
		}
	}
	if status, body := fresh.signIn("op", pass); status != 503 || !strings.Contains(body, "Mail is not affected") {
		t.Errorf("sign-in: %d", status)
	}
	if status, _ := v.post("/domains/example.test/mode", "to", "emergency", "reason", "x"); status != 503 {
		t.Errorf("switch: %d", status)
	}
	if status, body := apiCall(t, s, "GET", "/api/domains", "op", pass, ""); status != 503 || !strings.Contains(body, "does not answer") {
		t.Errorf("API: %d %s", status, body)
	}
	if status, _ := fresh.get("/login"); status != 200 {
		t.Errorf("the sign-in form itself needs no database: %d", status)
	}
	if err := own.StartServer(); err != nil {
		t.Fatal(err)
	}
	if status, body := v.get("/domains/example.test"); status != 200 || !strings.Contains(body, `data-testid="state-text"`) {
		t.Errorf("after the start: %d\n%s", status, body)
	}
	if status, _ := v.get("/healthz"); status != 200 {
		t.Errorf("healthz after the start: %d", status)
	}
}

// TestDatabaseHangs has a server that takes connections and says nothing.
func TestDatabaseHangs(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { defer c.Close(); io.Copy(io.Discard, c) }) //nolint:errcheck // ends with the client
		}
	})
	cfg, err := pgxpool.ParseConfig("postgres://x@" + l.Addr().String() + "/x?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	s := serveSite(t, cfg)
	began := time.Now()
	status, body := s.visitor(t).signIn("op", pass)
	if took := time.Since(began); status != 503 || took > requestTime+time.Minute || !strings.Contains(body, "The database does not answer") || !strings.Contains(body, "Mail is not affected") {
		t.Errorf("%d after %s\n%s", status, took, body)
	}
	if err := s.Health(); err == nil {
		t.Error("healthy without a database")
	}
}

// TestForeignSchema has an empty database.
func TestForeignSchema(t *testing.T) {
	t.Parallel()
	cfg, err := pgxpool.ParseConfig(cluster.URL("understudy_app", cluster.Database(t)))
	if err != nil {
		t.Fatal(err)
	}
	s := serveSite(t, cfg)
	status, body := s.visitor(t).signIn("op", pass)
	if status != 503 || !strings.Contains(body, "understudy-admin migrate") {
		t.Errorf("%d\n%s", status, body)
	}
}
