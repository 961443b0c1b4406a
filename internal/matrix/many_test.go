package matrix

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
)

// sendMany sends messages over some connections at once.
func (w *queuedWorld) sendMany(t *testing.T, token string, n int, to func(i int) []string) {
	t.Helper()
	next := make(chan int)
	errs := make(chan error, n)
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			for i := range next {
				no, _, err := w.send("s@internet.test", to(i), fmt.Sprintf("%s-%d", token, i), 0)
				if err == nil && len(no) > 0 {
					err = fmt.Errorf("not accepted: %v", no)
				}
				if err != nil {
					errs <- fmt.Errorf("message %d: %w", i, err)
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Fatal(err)
	}
}

// inPortal counts the messages in all mailboxes, by "token mailbox".
func (w *queuedWorld) inPortal(t *testing.T) map[string]int {
	t.Helper()
	have := map[string]int{}
	for _, mailbox := range w.boxes {
		b, err := w.portal.inbox(mailbox)
		if err != nil {
			t.Fatal(err)
		}
		tokens, err := b.tokens()
		b.close()
		if err != nil {
			t.Fatal(err)
		}
		for _, token := range tokens {
			have[token+" "+mailbox]++
		}
	}
	return have
}

// same wants each message as often as it should be there, and no other.
func (w *queuedWorld) same(t *testing.T, want, have map[string]int) {
	t.Helper()
	keys := maps.Clone(want)
	maps.Copy(keys, have)
	var wrong []string
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		if want[k] != have[k] {
			wrong = append(wrong, fmt.Sprintf("%s: %d, want %d", k, have[k], want[k]))
		}
	}
	if len(wrong) > 0 {
		t.Errorf("%d of %d messages: %q", len(wrong), len(want), wrong[:min(len(wrong), 20)])
	}
}

func (w *queuedWorld) noBounce(t *testing.T) {
	t.Helper()
	w.bounces.count(w.stack.Info.Internet.Maildir, "", "")
	if len(w.bounces.got) > 0 {
		t.Errorf("bounces: %v", w.bounces.got)
	}
}
