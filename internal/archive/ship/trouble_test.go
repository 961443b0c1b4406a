package ship_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"understudy/internal/archive/ship"
	"understudy/internal/archive/shiptest"
)

// TestOutage: while the store is away shipped records are errors at once, none
// of them "gone"; local ones are read; then all is as before.
func TestOutage(t *testing.T) {
	t.Parallel()
	shiptest.Each(t, func(t *testing.T, s *shiptest.Store) {
		r := newRig(t, s, 1000, 2000)
		r.put(t)
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		r.check(t)
		f, err := os.ReadFile(r.segment.Path)
		if err != nil {
			t.Fatal(err)
		}
		r.removeLocal(t)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		_, err1 := r.reader.ReadRecord(ctx, r.refs[0])
		_, err2 := r.reader.OpenSegment(ctx, r.segment.Name)
		_, err3 := r.reader.Segments(ctx)
		err4 := r.bucket.Delete(ctx, r.segment.Name)
		err5 := r.bucket.Put(ctx, r.segment.Name, bytes.NewReader(f), int64(len(f)))
		for i, err := range []error{err1, err2, err3, err4, err5} {
			if err == nil || errors.Is(err, fs.ErrNotExist) || ctx.Err() != nil {
				t.Errorf("error %d: %v", i+1, err)
			}
		}
		s.Start(t)
		r.check(t)
	})
}

// TestRefused: wrong keys, no keys, no such bucket: said clearly, and nothing
// is taken for gone.
func TestRefused(t *testing.T) {
	t.Parallel()
	server := shiptest.Start(t)
	s := server.Bucket(t)
	r := newRig(t, s, 1000)
	r.put(t)
	r.removeLocal(t)
	for name, file := range map[string]string{"unknown key": shiptest.Credentials(t, "nobody", "secret"),
		"wrong secret": shiptest.Credentials(t, server.AccessKey, "secret"), "no file": "/nonexistent"} {
		wrong := *s
		wrong.Config.CredentialsFile = file
		b := wrong.Open(t)
		_, err1 := b.Size(t.Context(), r.segment.Name)
		_, err2 := (ship.Reader{Dir: r.dir, Bucket: b}).ReadRecord(t.Context(), r.refs[0])
		err3 := b.Put(t.Context(), r.segment.Name, strings.NewReader("x"), 1)
		err4 := b.Delete(t.Context(), r.segment.Name)
		for i, err := range []error{err1, err2, err3, err4} {
			if !errors.Is(err, ship.ErrRefused) || strings.Contains(err.Error(), "secret\n") {
				t.Errorf("%s, %d: %v", name, i+1, err)
			}
		}
	}
	wrong := *s
	wrong.Config.URL = strings.Replace(s.Config.URL, "s3://b-", "s3://c-", 1)
	b := wrong.Open(t)
	if _, err := b.Size(t.Context(), r.segment.Name); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such bucket: %v", err)
	}
	if err := b.Delete(t.Context(), r.segment.Name); err == nil {
		t.Error("deleted from a bucket that is not there")
	}
	r.check(t)
}
