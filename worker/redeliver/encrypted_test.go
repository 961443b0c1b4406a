package redeliver

import (
	"context"
	"strings"
	"testing"

	"filippo.io/age"

	"understudy/internal/archive"
	"understudy/internal/store"
)

// TestEncrypted: without the key a redelivery fails and says why; with it the
// message is delivered.
func TestEncrypted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.writer.Close(); err != nil {
		t.Fatal(err)
	}
	if w.writer, err = archive.OpenWriter(w.config.Archive, archive.Options{Recipients: []age.Recipient{key.Recipient()}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.writer.Close() })
	ids := w.add("s@x.test", archive.Inbound, []string{ana}, numbered(1))
	r, _ := w.run(w.order(ids...).ID)
	failed, err := w.store.FailedItems(t.Context(), r.ID, 10)
	if err != nil || r.Failed != 1 || len(failed) != 1 || !strings.Contains(failed[0].Reply, "archive_identity_file") {
		t.Errorf("%+v, %+v, %v", r, failed, err)
	}
	w.worker.Open = func(_ context.Context, ref archive.Ref) (*archive.Record, error) {
		return archive.ReadRecord(w.config.Archive, ref, key)
	}
	if r, _ = w.run(w.order(ids...).ID); r.Done != 1 || r.State != store.RedeliveryDone {
		t.Errorf("%+v", r)
	}
	if got := w.primary.Await(ana, 1); len(got) != 1 {
		t.Errorf("%d messages arrived", len(got))
	}
}
