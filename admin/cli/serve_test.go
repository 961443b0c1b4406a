package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"understudy/internal/freeport"
	"understudy/internal/store"
	"understudy/internal/wait"
)

// TestServe runs "serve" with and without a database that fits, and ends it.
func TestServe(t *testing.T) {
	t.Parallel()
	name := cluster.Database(t)
	site, metrics := freeport.For(t), freeport.For(t)
	file := filepath.Join(t.TempDir(), "admin.yml")
	yml := fmt.Sprintf("database: {url: %q}\nstate_directory: /x\nmetrics_listen: %s\nlisten: %s\npublic_url: http://%s\narchive_directory: /x\n",
		cluster.URL("understudy_app", name), metrics, site, site)
	if err := os.WriteFile(file, []byte(yml), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var out bytes.Buffer
	exit := make(chan int, 1)
	go func() { exit <- Main(ctx, []string{"-config", file, "serve"}, strings.NewReader(""), &out, &out) }()
	client := http.Client{Timeout: time.Minute}
	says := func(url string, status int, text string) {
		t.Helper()
		wait.Until(t, url, func() error {
			resp, err := client.Get(url)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err == nil && (resp.StatusCode != status || !strings.Contains(string(body), text)) {
				err = fmt.Errorf("want %d %q, got %d %s", status, text, resp.StatusCode, body)
			}
			return err
		})
	}
	says("http://"+site+"/login", 200, "Sign in")
	says("http://"+metrics+"/healthz", 503, "understudy-admin migrate")
	says("http://"+site+"/healthz", 503, "schema")
	says("http://"+metrics+"/metrics", 200, "understudy_admin_request_seconds")
	owner, err := pgxpool.ParseConfig(cluster.URL("understudy", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Migrate(t.Context(), owner); err != nil {
		t.Fatal(err)
	}
	says("http://"+metrics+"/healthz", 200, "ok")
	says("http://"+site+"/healthz", 200, "ok")
	stop()
	select {
	case code := <-exit:
		if code != exitDone {
			t.Errorf("exit status %d: %s", code, &out)
		}
	case <-time.After(3 * time.Minute):
		t.Error("does not end")
	}
}

func TestServeSaysThatThePortIsTaken(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file := filepath.Join(t.TempDir(), "admin.yml")
	yml := fmt.Sprintf("database: {url: \"postgres://x@127.0.0.1:1/x\"}\nstate_directory: /x\nmetrics_listen: 127.0.0.1:0\nlisten: %s\npublic_url: http://x\narchive_directory: /x\n", l.Addr())
	if err := os.WriteFile(file, []byte(yml), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if code := Main(t.Context(), []string{"-config", file, "serve"}, strings.NewReader(""), &out, &out); code != exitFailed || !strings.Contains(out.String(), "address already in use") {
		t.Errorf("exit status %d: %s", code, &out)
	}
}
