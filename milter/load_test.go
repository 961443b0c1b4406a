package main

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"understudy/internal/archive"
	"understudy/internal/wait"
)

// TestMemory: one message of 50 MB, then 200 messages at once.
func TestMemory(t *testing.T) {
	t.Parallel()
	p, s := startBoth(t)
	p.sink.discardAll()
	c := p.connect(t)
	line := []byte(strings.Repeat("0123456789", 7) + "\r\n")
	big := append([]byte("Subject: big\r\n\r\n"), bytes.Repeat(line, 50_000_000/len(line))...)
	if reply := c.send("big@example.org", big, "ana@example.test"); !strings.HasPrefix(reply, "250") {
		t.Fatalf("50 MB: %q", reply)
	}
	// Many header fields are no way to fill the memory either.
	headers := append(bytes.Repeat([]byte("X: "+strings.Repeat("y", 900)+"\r\n"), 15_000), "\r\nx\r\n"...)
	if reply := c.send("headers@example.org", headers, "ana@example.test"); !strings.HasPrefix(reply, "250") {
		t.Fatalf("many headers: %q", reply)
	}
	afterBig := s.peakRSS(t)
	medium := append([]byte("Subject: medium\r\n\r\n"), bytes.Repeat(line, 150_000/len(line))...)
	var accepted atomic.Int64
	var together, wg sync.WaitGroup
	together.Add(200)
	for i := range 200 {
		wg.Go(func() {
			c, err := dial(p.smtp)
			reply := ""
			if err == nil {
				defer c.close()
				reply = c.envelope(fmt.Sprintf("m%d@example.org", i), "ana@example.test")
			}
			together.Done()
			together.Wait() // all connections are open and past RCPT
			if err != nil || !strings.HasPrefix(reply, "250") {
				t.Errorf("%v, %q", err, reply)
				return
			}
			if reply := c.data(medium); !strings.HasPrefix(reply, "250") {
				t.Errorf("message: %q", reply)
				return
			}
			accepted.Add(1)
		})
	}
	wg.Wait()
	peak := s.peakRSS(t)
	t.Logf("peak RSS: %d MiB after 50 MB, %d MiB after 200 messages at once", afterBig>>20, peak>>20)
	if afterBig > 96<<20 || peak > 192<<20 {
		t.Errorf("peak RSS %d MiB after 50 MB, %d MiB after 200 messages at once", afterBig>>20, peak>>20)
	}
	got := readArchive(t, s.archive)
	if int64(len(got)) != accepted.Load()+2 {
		t.Errorf("accepted %d = archived %d does not hold", accepted.Load()+2, len(got))
	}
	for _, a := range got {
		want := string(medium)
		switch a.Sender {
		case "big@example.org":
			want = string(big)
		case "headers@example.org":
			want = string(headers)
		}
		if a.body != want {
			t.Errorf("%s: archived with other bytes", a.Sender)
		}
	}
}

// TestKilledUnderLoad kills the milter, or asks it to end, while clients send:
// whatever was accepted is archived, and the service comes back.
func TestKilledUnderLoad(t *testing.T) {
	t.Parallel()
	for name, sig := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "asked to end": syscall.SIGTERM} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, s := startBoth(t, "segment_max_bytes: 200000")
			p.sink.discardAll()
			load := newLoad(p, 10)
			t.Cleanup(load.end)
			for round := 1; round <= 4; round++ {
				wait.Until(t, "mail is accepted", func() error {
					if n := load.accepted.Load(); n < int64(round*150) {
						return fmt.Errorf("%d accepted\n%s", n, s.log)
					}
					return nil
				})
				s.stop(t, sig)
				s.start(t)
			}
			load.end()
			s.stop(t, syscall.SIGTERM)
			load.check(t, s)
		})
	}
}

// load sends messages from several clients until it is ended.
type load struct {
	accepted, refused, broken atomic.Int64
	senders                   sync.Map // of accepted messages
	stop                      chan struct{}
	once                      sync.Once
	wg                        sync.WaitGroup
}

func newLoad(p *postfix, clients int) *load {
	l := &load{stop: make(chan struct{})}
	for i := range clients {
		l.wg.Go(func() {
			var c *client
			for n := 0; ; n++ {
				select {
				case <-l.stop:
					return
				default:
				}
				if c == nil {
					if c, _ = dial(p.smtp); c == nil {
						<-time.After(10 * time.Millisecond) // the machine is the milter's
						continue
					}
				}
				sender := fmt.Sprintf("c%dn%d@example.org", i, n)
				switch reply := c.send(sender, loadMessage(sender), "ana@example.test"); {
				case strings.HasPrefix(reply, "250"):
					l.accepted.Add(1)
					l.senders.Store(sender, true)
					continue
				case strings.HasPrefix(reply, "4"):
					l.refused.Add(1)
				default:
					l.broken.Add(1)
				}
				c.close()
				c = nil
			}
		})
	}
	return l
}

func loadMessage(sender string) []byte {
	return []byte("Subject: load\r\nX-Sender: " + sender + "\r\n\r\n" + strings.Repeat(sender+"\r\n", 100))
}

func (l *load) end() {
	l.once.Do(func() { close(l.stop) })
	l.wg.Wait()
}

// check sums up: every accepted message is archived, byte for byte, and no
// segment is left open.
func (l *load) check(t *testing.T, s *service) {
	t.Helper()
	got := readArchive(t, s.archive)
	found := map[string]bool{}
	for _, a := range got {
		found[a.Sender] = true
		if a.body != string(loadMessage(a.Sender)) {
			t.Errorf("%s: archived with other bytes", a.Sender)
		}
	}
	l.senders.Range(func(sender, _ any) bool {
		if !found[sender.(string)] {
			t.Errorf("%s was accepted and is not archived", sender)
		}
		return true
	})
	unaccepted := int64(len(got)) - l.accepted.Load()
	t.Logf("accepted %d, refused for now %d, connections broken %d, archived %d: %d of them never acknowledged",
		l.accepted.Load(), l.refused.Load(), l.broken.Load(), len(got), unaccepted)
	if unaccepted < 0 || unaccepted > l.refused.Load()+l.broken.Load() {
		t.Errorf("accepted <= archived <= accepted + refused + broken does not hold")
	}
	segments, err := archive.Segments(s.archive)
	if err != nil {
		t.Fatal(err)
	}
	for _, seg := range segments {
		if seg.Open {
			t.Errorf("%s is open after the end", seg.Name)
		}
	}
	if left, err := filepath.Glob(filepath.Join(s.dir, ".spool-*")); err != nil || len(left) > 0 {
		t.Errorf("spool files left: %v, %v", left, err)
	}
}
