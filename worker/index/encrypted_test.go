package index

import (
	"log/slog"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"understudy/internal/archive"
	"understudy/internal/archive/ship"
	"understudy/internal/logtest"
	"understudy/internal/wait"
)

// TestEncrypted: without the key, or with a wrong one, the index stops in
// front of the first encrypted record, says so once, and has everything after
// a start with the key.
func TestEncrypted(t *testing.T) {
	t.Parallel()
	key, other := identity(t), identity(t)
	r := newRig(t, cluster, archive.Options{})
	r.add("Subject: clear\r\n\r\nfirst\r\n")
	if err := r.writer.Close(); err != nil {
		t.Fatal(err)
	}
	var err error
	if r.writer, err = archive.OpenWriter(r.dir, archive.Options{Recipients: []age.Recipient{key.Recipient()}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.writer.Close() })
	r.add("Subject: secret\r\n\r\nsecond\r\n", "Subject: secret\r\n\r\nthird\r\n")
	for _, keys := range [][]age.Identity{nil, {other}} {
		x, log := r.indexer(r.store), &logtest.Buffer{}
		x.Source, x.Log = ship.Local{Dir: r.dir, Identities: keys}, slog.New(slog.NewTextHandler(log, nil))
		registry := prometheus.NewRegistry()
		x.Metrics = NewMetrics(registry)
		stop := r.run(x)
		wait.True(t, "the second look at what waits", func() bool { return testutil.ToFloat64(x.Metrics.errors) >= 2 })
		stop()
		if n := r.count("SELECT count(*) FROM message"); n != 1 {
			t.Errorf("%d messages are in the index", n)
		}
		if n := testutil.ToFloat64(x.Metrics.locked); n != 1 {
			t.Errorf("%v segments wait", n)
		}
		if n := strings.Count(log.String(), "archive_identity_file"); n != 1 {
			t.Errorf("said %d times:\n%s", n, log.String())
		}
	}
	r.index.Source = ship.Local{Dir: r.dir, Identities: []age.Identity{other, key}}
	stop := r.run(r.index)
	defer stop()
	r.waitFor(3)
	if n := r.count("SELECT count(*) FROM message WHERE subject = 'secret'"); n != 2 {
		t.Errorf("%d of the encrypted messages are in the index", n)
	}
	wait.True(t, "nothing waits", func() bool { return testutil.ToFloat64(r.index.Metrics.locked) == 0 })
}

func identity(t *testing.T) *age.X25519Identity {
	t.Helper()
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return key
}
