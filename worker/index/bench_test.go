package index

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"understudy/internal/archive"
	"understudy/internal/mime"
	"understudy/internal/store"
)

// BenchmarkIndex indexes messages from a segment on disk into PostgreSQL; an
// operation is one message.
func BenchmarkIndex(b *testing.B) {
	for _, size := range []int{5_000, 100_000} {
		b.Run(fmt.Sprintf("%dKB", size/1000), func(b *testing.B) {
			r := benchRig(b)
			for range b.N {
				r.add(letter(size))
			}
			x := r.indexer(r.store)
			x.decoder = mime.NewDecoder()
			b.ResetTimer()
			if err := x.pass(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
			if n := r.count("SELECT count(*) FROM message"); n != b.N {
				b.Errorf("%d of %d messages", n, b.N)
			}
		})
	}
}

// letter is a message of words of which some are common.
func letter(size int) string {
	var s strings.Builder
	s.WriteString("From: Ana <ana@example.test>\r\nTo: bruno@example.test\r\nSubject: figures of the month\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n")
	for n := 1; s.Len() < size; n++ {
		fmt.Fprintf(&s, "wort%x ", rand.IntN(1+rand.IntN(1+rand.IntN(50_000))))
		if n%10 == 0 {
			s.WriteString("\r\n")
		}
	}
	return s.String()
}

func benchRig(b *testing.B) *rig {
	name := cluster.Database(b)
	open := func(role string) *pgxpool.Config {
		cfg, err := pgxpool.ParseConfig(cluster.URL(role, name))
		if err != nil {
			b.Fatal(err)
		}
		return cfg
	}
	if _, err := store.Migrate(b.Context(), open("understudy")); err != nil {
		b.Fatal(err)
	}
	s, err := store.New(b.Context(), open("understudy_app"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Close)
	dir := b.TempDir()
	w, err := archive.OpenWriter(dir, archive.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { w.Close() })
	return &rig{t: b, dir: dir, writer: w, store: s}
}
