package story

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"understudy/internal/stack"
)

const (
	loadMessages = 600
	loadSenders  = 6
)

// loadResult is what a sender knows of one message.
type loadResult struct {
	letter   letter
	accepted bool
	tries    int // transactions begun
	unclear  int // connections lost after the data: accepted or not, nobody can know
}

// TestKill9UnderLoad kills each service once with SIGKILL while mail flows,
// the primary too, and then adds up: every accepted message is at the
// primary, in the portal or still queued, and in the archive.
func TestKill9UnderLoad(t *testing.T) {
	t.Parallel()
	s, st := newStack(t)
	ctx := t.Context()
	var sent atomic.Int64
	results := make([]loadResult, loadMessages)
	work := make(chan int)
	var senders sync.WaitGroup
	for range loadSenders {
		senders.Go(func() {
			for i := range work {
				results[i] = s.sendUntilAccepted(ctx, i)
				sent.Add(1)
			}
		})
	}
	go func() {
		defer close(work)
		for i := range results {
			select {
			case work <- i:
			case <-ctx.Done():
				return
			}
		}
	}()
	victims := []stack.Component{stack.Policyd, stack.Milter, stack.DovecotAuth, stack.Worker, stack.Admin}
	for i, victim := range victims {
		waitFor(t, "load before the next kill", func() error {
			if want := int64((i + 1) * loadMessages / (len(victims) + 2)); sent.Load() < want {
				return fmt.Errorf("%d of %d messages", sent.Load(), want)
			}
			return nil
		})
		if victim == stack.DovecotAuth { // the portal takes part from here on
			if err := shell(ctx, s.info.Primary.Stop); err != nil {
				t.Fatal(err)
			}
		}
		if err := st.Kill9(ctx, victim); err != nil {
			t.Fatal(err)
		}
		if err := st.Start(ctx, victim); err != nil {
			t.Fatal(err)
		}
		t.Logf("killed and restarted %s after %d messages", victim, sent.Load())
	}
	senders.Wait()
	if err := shell(ctx, s.info.Primary.Start); err != nil {
		t.Fatal(err)
	}
	if err := s.waitMode(ctx, "normal"); err != nil {
		t.Error(err)
	}
	s.addUp(t, results)
}

// sendUntilAccepted sends a message as a sender's queue would: again after
// each temporary failure.
func (s *Story) sendUntilAccepted(ctx context.Context, i int) loadResult {
	r := loadResult{letter: newLetter("load@internet.test", s.user(i%3).Address, fmt.Sprintf("load %d", i))}
	for !r.accepted && ctx.Err() == nil && r.tries < 3000 {
		r.tries++
		err := send(s.info.SMTP, r.letter.from, []string{r.letter.to}, r.letter.text)
		var refused *smtp.SMTPError
		switch {
		case err == nil:
			r.accepted = true
		case errors.As(err, &refused): // said clearly: not taken
		default:
			r.unclear++
		}
		if !r.accepted {
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
	return r
}

// addUp waits until the mail has come to rest and compares the sums.
func (s *Story) addUp(t *testing.T, results []loadResult) {
	t.Helper()
	ctx := t.Context()
	atRest := func() error {
		queue, err := s.queue(ctx)
		if err != nil || len(queue) > 0 {
			return fmt.Errorf("%d messages queued, %v", len(queue), err)
		}
		for i := range 3 {
			if err := s.emptyInbox(ctx, i); err != nil {
				return err
			}
		}
		return nil
	}
	if err := within(ctx, 8*time.Minute, "mail at rest", atRest); err != nil {
		t.Error(err)
	}
	archive := s.archiveText(t)
	var accepted, delivered, duplicates, records, unclear int
	for _, r := range results {
		unclear += r.unclear
		if !r.accepted {
			t.Errorf("a message was not accepted in %d tries", r.tries)
			continue
		}
		accepted++
		copies, err := maildir(s.primaryMaildir(r.letter.to), r.letter.token)
		if err != nil {
			t.Fatal(err)
		}
		if len(copies) == 0 {
			t.Errorf("accepted and lost: %s for %s", r.letter.token, r.letter.to)
			continue
		}
		for _, c := range copies {
			if err := r.letter.same(c); err != nil {
				t.Error(err)
			}
		}
		delivered++
		duplicates += len(copies) - 1
		n := strings.Count(archive, "Message-ID: <"+r.letter.token)
		if n == 0 {
			t.Errorf("accepted and not archived: %s", r.letter.token)
		}
		records += n
	}
	t.Logf("accepted %d = delivered %d + portal 0 + queued 0; archive records %d, of which %d are retries of the same message; "+
		"%d transactions with unclear outcome; %d duplicates", accepted, delivered, records, records-accepted, unclear, duplicates)
	// A copy more than once needs a cause: a sender that did not see the
	// answer, or the drain's worker killed between the primary's 250 and the
	// ledger (at most its concurrency).
	if limit := unclear + drainConcurrency; duplicates > limit {
		t.Errorf("%d duplicates, but only %d causes", duplicates, limit)
	}
	if accepted != len(results) || delivered != accepted {
		t.Errorf("sent %d, accepted %d, delivered %d", len(results), accepted, delivered)
	}
}

// drainConcurrency is how many messages the worker sends back at once.
const drainConcurrency = 4

// archiveText unpacks the whole archive with stock tools only.
func (s *Story) archiveText(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	segments, err := filepath.Glob(filepath.Join(s.info.Archive, "*", "[0-9]*.tar.zst"))
	if err != nil || len(segments) == 0 {
		t.Fatalf("no segments in %s: %v", s.info.Archive, err)
	}
	for _, path := range segments {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", `zstd -dcq "$0" | tar -xO`, path)
		cmd.Stdout = &all
		if err := cmd.Run(); err != nil {
			t.Errorf("unpack %s: %v", path, err)
		}
	}
	return all.String()
}

func waitFor(t *testing.T, what string, check func() error) {
	t.Helper()
	if err := within(t.Context(), 3*time.Minute, what, check); err != nil {
		t.Fatal(err)
	}
}
