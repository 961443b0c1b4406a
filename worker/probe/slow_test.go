package probe

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"understudy/internal/blackhole"
	"understudy/worker/detect"
)

// slow answers as smtp does, but takes its time before the banner and before
// each reply to RCPT.
func slow(banner, rcpt time.Duration) func(c net.Conn) {
	return func(c net.Conn) {
		<-time.After(banner)
		fmt.Fprint(c, "220 mx.test ESMTP\r\n")
		lines := bufio.NewScanner(c)
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "RCPT") {
				<-time.After(rcpt)
			}
			fmt.Fprint(c, "250 ok\r\n")
		}
	}
}

// TestSlowOnPurpose: a server that lets clients wait longer than a connection
// may take gets mail, and so is healthy; a silent one is not.
func TestSlowOnPurpose(t *testing.T) {
	t.Parallel()
	p := &Prober{Helo: "gw.test", Timeout: 3 * time.Second}
	for name, c := range map[string]struct {
		banner, rcpt time.Duration
		recipients   []string
		class        detect.Class
		detail       string
	}{
		"greets late":        {4 * time.Second, 0, nil, detect.Healthy, ""},
		"slow at recipients": {0, 1500 * time.Millisecond, []string{"a@example.test", "b@example.test", "c@example.test"}, detect.Healthy, ""},
		"never greets":       {18 * time.Second, 0, nil, detect.Timeout, "banner: no answer within 12s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := server(t, slow(c.banner, c.rcpt))
			if got := p.Probe(t.Context(), address, c.recipients...); got.Class != c.class || got.Detail != c.detail {
				t.Errorf("%+v, want %s %q", got, c.class, c.detail)
			}
			if c.class != detect.Healthy {
				return
			}
			if replies, err := p.Ask(t.Context(), []string{address}, "a@example.test"); err != nil || len(replies) != 1 {
				t.Errorf("asked: %v, %v", replies, err)
			}
		})
	}
}

// TestSwallowsPackets: a connection that does not come is given no longer
// than its own timeout.
func TestSwallowsPackets(t *testing.T) {
	t.Parallel()
	address := blackhole.For(t)
	p := &Prober{Helo: "gw.test", Timeout: 3 * time.Second}
	begin := time.Now()
	got := p.Probe(t.Context(), address)
	if got.Class != detect.Timeout || got.Detail != "connect: no answer within 3s" {
		t.Errorf("%+v", got)
	}
	if took := time.Since(begin); took >= patience*p.Timeout {
		t.Errorf("took %v", took)
	}
}
