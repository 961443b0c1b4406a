package matrix

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// play plays all rows, the slow ones first.
func play(t *testing.T, w *world) []result {
	order := make([]int, len(rows))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return int(rows[b].wait - rows[a].wait) })
	results := make([]result, len(rows))
	slots := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	began := time.Now()
	for _, i := range order {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			results[i] = w.play(&rows[i])
		})
	}
	wg.Wait()
	t.Logf("%d rows in %s", len(rows), time.Since(began).Round(time.Millisecond))
	return results
}

// play sends one message to a row's recipients and watches for what becomes
// of it.
func (w *world) play(r *row) result {
	res := result{outcome: map[string]outcome{}}
	inboxes := map[string]*inbox{}
	var to []string
	for local := range r.want {
		address := local + "@" + r.domain()
		to = append(to, address)
		if local == "dora" {
			continue
		}
		b, err := w.portal.inbox(address)
		if err != nil {
			res.err = err
			return res
		}
		defer b.close()
		inboxes[local] = b
	}
	slices.Sort(to)
	no, accepted, err := w.send(r.sender(), to, r.id, r.octets)
	if err != nil {
		res.err = fmt.Errorf("send: %w", err)
		return res
	}
	limit := time.After(r.wait + patience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for len(res.outcome) < len(r.want) {
		for local := range r.want {
			if res.outcome[local] != "" {
				continue
			}
			address := local + "@" + r.domain()
			o, err := w.see(r, address, inboxes[local])
			if n, ok := no[address]; ok {
				o = n
			}
			if err != nil {
				res.err = err
				return res
			}
			if o != "" {
				res.outcome[local], res.took = o, time.Since(accepted)
			}
		}
		select {
		case <-tick.C:
		case <-limit:
			res.err = fmt.Errorf("after %s only %v", time.Since(accepted).Round(time.Second), res.outcome)
			return res
		}
	}
	return res
}

func (r *row) sender() string {
	if r.null {
		return ""
	}
	return r.id + "@internet.test"
}

// see looks once where a recipient's message is; "" is on its way. Of a
// message that may be in two places only the place that counts is looked at.
func (w *world) see(r *row, address string, b *inbox) (outcome, error) {
	if b != nil {
		if n, err := b.copies(r.id); err != nil || n > 0 {
			return portalHas, err
		}
	}
	if !r.twice && r.primary != nil && r.primary.copies(r.id, address) > 0 {
		return primaryHas, nil
	}
	if w.bounces.count(w.stack.Info.Internet.Maildir, r.sender(), address) > 0 {
		return bounced, nil
	}
	if reason, _ := w.queue.look(w.stack.Info.PostfixConfig, address, 300*time.Millisecond); reason != "" {
		return queued, nil
	}
	return "", nil
}
