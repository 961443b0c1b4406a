package probe

import (
	"strings"
	"testing"
	"time"

	"understudy/worker/detect"
)

// TestRecipients names recipients to a server on a real socket.
func TestRecipients(t *testing.T) {
	t.Parallel()
	two := []string{"ana@example.test", "bruno@example.test"}
	for _, c := range []struct {
		name       string
		replies    map[string]string
		recipients []string
		class      detect.Class
		detail     string
	}{
		{"accepted", nil, two, detect.Healthy, ""},
		{"451 4.3.2 to everybody", map[string]string{"RCPT": "451 4.3.2 not now"}, two, detect.ServerTempfail, "RCPT: 451 4.3.2 not now"},
		{"451 4.7.500 to everybody asked", map[string]string{"RCPT": "451 4.7.500 busy"}, two, detect.RecipientDefer, "RCPT: 451 4.7.500"},
		{"451 4.7.500 to some", map[string]string{"RCPT TO:<ana@example.test>": "451 4.7.500 busy"}, two, detect.RecipientDefer, "4.7.500"},
		{"greylisting", map[string]string{"RCPT": "450 4.2.0 Greylisted"}, two, detect.RecipientDefer, "Greylisted"},
		{"greylisting without a code", map[string]string{"RCPT": "451 try later"}, two, detect.RecipientDefer, "try later"},
		{"one mailbox over quota", map[string]string{"RCPT TO:<ana@example.test>": "552 5.2.2 quota"}, two, detect.RecipientRefused, "552 5.2.2"},
		{"552 to everybody", map[string]string{"RCPT": "552 disk"}, two, detect.ServerReject, "552 disk"},
		{"552 to the only one", map[string]string{"RCPT": "552 disk"}, two[:1], detect.RecipientRefused, "552 disk"},
		{"552 5.3.1", map[string]string{"RCPT": "552 5.3.1 disk"}, two[:1], detect.ServerReject, "552 5.3.1"},
		{"452 to everybody", map[string]string{"RCPT": "452 disk"}, two, detect.ServerTempfail, "452 disk"},
		{"unknown users", map[string]string{"RCPT": "550 5.1.1 who"}, two, detect.RecipientRefused, "550 5.1.1"},
		{"421", map[string]string{"RCPT": "421 bye"}, two, detect.ServerTempfail, "421 bye"},
		{"closes at RCPT", map[string]string{"RCPT": "CLOSE"}, two, detect.Unreachable, "RCPT: "},
		{"hangs at RCPT", map[string]string{"RCPT": "HANG"}, two, detect.Timeout, "RCPT: no answer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := &Prober{Helo: "gw.test", Timeout: 15 * time.Second}
			if c.class == detect.Timeout {
				p.Timeout = time.Second
			}
			got := p.Probe(t.Context(), server(t, smtp("220 x", c.replies)), c.recipients...)
			if got.Class != c.class || !strings.Contains(got.Detail, c.detail) {
				t.Errorf("%+v, want %s %q", got, c.class, c.detail)
			}
		})
	}
}
