package redeliver

import (
	"strings"
	"testing"
	"time"

	"understudy/internal/archive"
	"understudy/internal/job"
	"understudy/internal/store"
)

// TestAnotherGateways: a message whose segment is on another gateway alone
// waits, and is left to that gateway's worker, which delivers it at once. One
// that is missing there too fails.
func TestAnotherGateways(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.worker.Gateway = "gw1"
	ids := w.add("s@x.test", archive.Inbound, []string{ana}, numbered(1), numbered(2))
	w.exec(`UPDATE segment SET host = 'gw2'`)
	there := w.config.Archive
	two := *w.worker
	two.Gateway = "gw2"
	w.config.Archive = t.TempDir() // gw1's
	w.worker.Open, two.Open = w.opener(w.config.Archive), w.opener(there)
	r, nap := w.run(w.order(ids...).ID)
	waiting, err := w.store.RetriedItems(t.Context(), r.ID, 10)
	if err != nil || r.Failed != 0 || len(waiting) != 2 || nap <= 0 {
		t.Fatalf("%+v, %+v, %v", r, waiting, err)
	}
	for _, i := range waiting {
		if i.Reply != "its segment is on gateway gw2 and not yet shipped" || time.Until(i.NextAt) < elsewhere/2 {
			t.Errorf("%+v", i)
		}
	}
	var queues string
	err = w.store.Pool.QueryRow(t.Context(), `SELECT string_agg(queue, ' ' ORDER BY id) FROM river_job WHERE kind = 'redeliver'`).Scan(&queues)
	if err != nil || queues != "default "+job.GatewayQueue("gw2") {
		t.Errorf("jobs in %q, %v", queues, err)
	}
	if r, _ = w.run(r.ID); r.Done+r.Failed != 0 { // not due here
		t.Errorf("%+v", r)
	}
	w.worker = &two
	if r, nap = w.run(r.ID); r.Done != 2 || r.State != store.RedeliveryDone || nap >= 0 {
		t.Errorf("%+v, %v", r, nap)
	}
	w.primary.Await(ana, 2)

	two.Open = w.opener(w.config.Archive)
	r, _ = w.run(w.order(ids[0]).ID)
	failed, err := w.store.FailedItems(t.Context(), r.ID, 10)
	if err != nil || len(failed) != 1 || !strings.Contains(failed[0].Reply, "cannot be read") {
		t.Errorf("%+v, %+v, %v", r, failed, err)
	}
}

// TestGatewayStaysAway: what waits for a gateway that does not come back is
// tried here once its segment is shipped, and given up after two days.
func TestGatewayStaysAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.worker.Gateway = "gw1"
	ids := w.add("s@x.test", archive.Inbound, []string{ana}, numbered(1))
	w.exec(`UPDATE segment SET host = 'gw2'`)
	here := w.worker.Open
	w.worker.Open = w.opener(t.TempDir())
	shipped, lost := w.order(ids...), w.order(ids...)
	w.run(shipped.ID)
	w.run(lost.ID)
	w.exec(`UPDATE redelivery_item SET next_at = now()`)
	w.exec(`UPDATE redelivery SET at = now() - interval '49 hours' WHERE id = $1`, lost.ID)
	r, _ := w.run(lost.ID)
	failed, err := w.store.FailedItems(t.Context(), r.ID, 10)
	if err != nil || r.State != store.RedeliveryDone || len(failed) != 1 || !strings.Contains(failed[0].Reply, "given up: its segment is on gateway gw2") {
		t.Errorf("%+v, %+v, %v", r, failed, err)
	}
	w.worker.Open = here
	if r, _ = w.run(shipped.ID); r.Done != 1 || r.State != store.RedeliveryDone {
		t.Errorf("%+v", r)
	}
}
