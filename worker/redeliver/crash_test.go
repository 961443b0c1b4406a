package redeliver

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"understudy/internal/archive"
	"understudy/internal/directory"
	"understudy/internal/store"
)

const childVariable = "UNDERSTUDY_REDELIVER_TEST_CHILD"

// child works on redelivery 1 again and again, until it is killed.
func child() {
	var c childConfig
	if err := json.Unmarshal([]byte(os.Getenv(childVariable)), &c); err != nil {
		panic(err)
	}
	dir := directory.New()
	w, _, _, err := c.worker(dir, nil)
	if err != nil {
		panic(err)
	}
	for changed := dir.Changed(); !dir.Loaded(); changed = dir.Changed() {
		<-changed
	}
	for {
		w.Run(context.Background(), 1) //nolint:errcheck // the test looks at what arrives
	}
}

// TestKill kills the process again and again, from the first moment of
// collecting: all arrives, and no more twice than the crashes explain.
func TestKill(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const total = 160
	var bodies []string
	for n := range total {
		bodies = append(bodies, numbered(n))
	}
	w.add("s@x.test", archive.Inbound, []string{ana}, bodies...)
	r, err := w.store.Redeliver(t.Context(), store.NewRedelivery{Actor: "op", Access: store.Access{All: true}, Query: "mailbox:" + ana})
	if err != nil || r.ID != 1 {
		t.Fatal(r, err)
	}
	config, err := json.Marshal(w.config)
	if err != nil {
		t.Fatal(err)
	}
	crashes, uncertain := 0, 0
	left := func() int {
		return total - w.count(`SELECT count(*) FROM redelivery_item WHERE state = 'sent'`)
	}
	for began := time.Now(); left() > 0; {
		if time.Since(began) > 10*time.Minute {
			t.Fatalf("%d remain after %d crashes", left(), crashes)
		}
		before := left()
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childVariable+"="+string(config))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() }) // if the test ends before it
		few := 1 + rand.IntN(20)
		w.await("some messages", func() bool { n := left(); return n == 0 || before-n >= few })
		time.AfterFunc(time.Duration(rand.IntN(8000))*time.Microsecond, func() { cmd.Process.Kill() }) //nolint:errcheck // it runs
		cmd.Wait()                                                                                     //nolint:errcheck // killed
		crashes++
		uncertain += w.count(`SELECT count(*) FROM redelivery_item WHERE state = 'sending'`)
	}
	w.await("the lock to be free", func() bool {
		if _, err := w.worker.Run(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		return w.count(`SELECT count(*) FROM redelivery WHERE state = 'done' AND done = 160 AND failed = 0 AND total = 160`) == 1
	})
	w.await("the primary", func() bool {
		out, err := exec.Command("postqueue", "-c", w.primary.Dir, "-j").Output()
		return err == nil && len(out) == 0
	})
	copies := map[string]int{}
	for _, m := range w.primary.Mail(ana) {
		_, rest, _ := strings.Cut(m, "Subject: ")
		subject, _, _ := strings.Cut(rest, "\n")
		copies[strings.TrimSpace(subject)]++
	}
	duplicates := 0
	for n := range total {
		c := copies[fmt.Sprintf("number %d", n)]
		if c == 0 {
			t.Errorf("message %d is lost", n)
		}
		duplicates += max(0, c-1)
	}
	if duplicates > uncertain {
		t.Errorf("%d duplicates, only %d messages were uncertain", duplicates, uncertain)
	}
	t.Logf("%d messages, %d crashes, %d uncertain, %d duplicates", total, crashes, uncertain, duplicates)
}

func (w *world) count(sql string) (n int) {
	w.t.Helper()
	if err := w.store.Pool.QueryRow(w.t.Context(), sql).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}
