package ship_test

import (
	"io"
	"os"
	"testing"

	"understudy/internal/archive/shiptest"
)

func eachStore(b *testing.B, bench func(b *testing.B, s *shiptest.Store)) {
	b.Run("s3", func(b *testing.B) { bench(b, shiptest.Start(b).Bucket(b)) })
	b.Run("directory", func(b *testing.B) { bench(b, shiptest.Directory(b)) })
}

// BenchmarkShip sends a segment of 64 MB and reads it back, as the worker does.
func BenchmarkShip(b *testing.B) {
	eachStore(b, func(b *testing.B, s *shiptest.Store) {
		r := newRig(b, s, 16<<20, 16<<20, 16<<20, 16<<20)
		b.SetBytes(r.segment.Size)
		for b.Loop() {
			r.put(b)
			if _, err := r.bucket.Sum(b.Context(), r.segment.Name, r.segment.Size); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkUpload is the sending alone.
func BenchmarkUpload(b *testing.B) {
	eachStore(b, func(b *testing.B, s *shiptest.Store) {
		r := newRig(b, s, 16<<20, 16<<20, 16<<20, 16<<20)
		b.SetBytes(r.segment.Size)
		for b.Loop() {
			r.put(b)
		}
	})
}

// BenchmarkReadRecord opens one message of 5 KB, 100 KB and 5 MB out of a
// large segment; "local" is the same from the archive directory.
func BenchmarkReadRecord(b *testing.B) {
	eachStore(b, func(b *testing.B, s *shiptest.Store) {
		r := newRig(b, s, 5_000, 100_000, 5_000_000, 32<<20)
		r.put(b)
		read := func(name string, i int) {
			b.Run(name, func(b *testing.B) {
				for b.Loop() {
					rec, err := r.reader.ReadRecord(b.Context(), r.refs[i])
					if err != nil {
						b.Fatal(err)
					}
					if _, err := io.Copy(io.Discard, rec.Body); err != nil {
						b.Fatal(err)
					}
					rec.Close()
				}
			})
		}
		names := []string{"5KB", "100KB", "5MB"}
		for i, name := range names {
			read("local-"+name, i)
		}
		if err := os.Remove(r.segment.Path); err != nil {
			b.Fatal(err)
		}
		for i, name := range names {
			read(name, i)
		}
	})
}
