package outcome

import (
	"strings"
	"testing"
	"time"

	"understudy/internal/evidence"
)

// TestParse: the keys are those that Postfix 3.7.11 was seen to send.
func TestParse(t *testing.T) {
	t.Parallel()
	const host = "host 127.0.0.1[127.0.0.1] said: "
	for _, c := range []struct {
		key     string
		host    string
		class   evidence.Class
		verdict Verdict
	}{
		{"2.0.0 250 2.0.0 Ok: queued as X", "", "", Pass},
		{"5.1.1 " + host + "550 5.1.1 no such user (in reply to RCPT TO command)", "127.0.0.1", evidence.RecipientRefused, Pass},
		{"5.2.2 " + host + "552 5.2.2 over quota (in reply to RCPT TO command)", "127.0.0.1", evidence.RecipientRefused, Pass},
		{"5.7.1 " + host + "550 5.7.1 blocked (in reply to MAIL FROM command)", "127.0.0.1", evidence.RecipientRefused, Pass},
		{"5.6.0 " + host + "554 5.6.0 bad MIME (in reply to end of DATA command)", "127.0.0.1", evidence.RecipientRefused, Pass},
		{"5.3.4 " + host + "554-5.3.4 line one 554 5.3.4 too big (in reply to end of DATA command)", "127.0.0.1", evidence.RecipientRefused, Pass},
		{"5.0.0 " + host + "550 no such user (in reply to RCPT TO command)", "127.0.0.1", evidence.RecipientRefused, Pass},
		{"5.3.1 " + host + "552 5.3.1 Insufficient system storage (in reply to end of DATA command)", "127.0.0.1", evidence.ServerReject, Soften},
		{"5.3.0 host mx1.Example.test[192.0.2.1] said: 554 5.3.0 Mail service unavailable (in reply to MAIL FROM command)", "mx1.example.test", evidence.ServerReject, Soften},
		{"5.7.1 host 127.0.0.1[127.0.0.1] refused to talk to me: 550 5.7.1 no", "127.0.0.1", evidence.ServerReject, Soften},
		{"5.0.0 " + host + "554 Transaction failed (in reply to end of DATA command)", "127.0.0.1", evidence.ServerReject, Doubt},
		{"5.0.0 " + host + "552 storage (in reply to end of DATA command)", "127.0.0.1", evidence.ServerReject, Doubt},
		{"4.3.2 " + host + "451 4.3.2 both (in reply to RCPT TO command)", "127.0.0.1", evidence.ServerTempfail, Pass},
		{"4.0.0 host 127.0.0.1[127.0.0.1] refused to talk to me: 421 busy", "127.0.0.1", evidence.ServerTempfail, Pass},
		{"4.7.1 " + host + "451 4.7.1 greylisted (in reply to RCPT TO command)", "127.0.0.1", evidence.RecipientDefer, Pass},
		{"4.7.500 " + host + "451 4.7.500 Server busy (in reply to RCPT TO command)", "127.0.0.1", evidence.RecipientDefer, Pass},
		{"4.4.1 connect to 127.0.0.1[127.0.0.1]:55427: Connection refused", "127.0.0.1", evidence.Unreachable, Pass},
		{"4.4.1 connect to mx1.example.test[192.0.2.1]:25: Connection timed out", "mx1.example.test", evidence.Timeout, Pass},
		{"4.4.2 conversation with 127.0.0.1[127.0.0.1] timed out while receiving the initial server greeting", "127.0.0.1", evidence.Timeout, Pass},
		{"4.4.2 lost connection with 127.0.0.1[127.0.0.1] while sending DATA command", "127.0.0.1", evidence.Unreachable, Pass},
		{"4.4.4 unable to look up host localhost: Temporary failure in name resolution", "localhost", evidence.Unreachable, Pass},
		{"4.4.3 Host or domain name not found. Name service error for name=mx.example.test type=A: Host not found, try again", "mx.example.test", evidence.Unreachable, Pass},
		{"5.4.4 Host or domain name not found. Name service error for name=mx.example.test type=A: Host not found", "mx.example.test", evidence.Unreachable, Soften},
		{"4.7.5 Cannot start TLS: handshake failure", "", evidence.TLS, Pass},
		{"5.4.6 mail for example.test loops back to myself", "", "", Soften},
		{"5.4.6 " + host + "554 5.4.6 too many hops (in reply to end of DATA command)", "127.0.0.1", evidence.RecipientRefused, Pass},
		{"", "", "", Pass}, {"5", "", "", Pass}, {"nonsense", "", "", Pass},
	} {
		o := Parse(c.key)
		if o.Host != c.host || o.Class != c.class || o.Verdict != c.verdict {
			t.Errorf("%q: %+v, want %q %q %v", c.key, o, c.host, c.class, c.verdict)
		}
	}
	o := Parse("5.3.1 " + host + "552 5.3.1 full\x1b[31m (in reply to end of DATA command)")
	if o.Said != "552 5.3.1 full?[31m (in reply to end of DATA command)" {
		t.Errorf("said %q", o.Said)
	}
	if got := Softened("5.3.1 x"); got != "4.3.1 x" {
		t.Errorf("softened %q", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("5.3.1 host mx1[192.0.2.1] said: 552 5.3.1 disk full (in reply to end of DATA command)")
	f.Add("4.4.1 connect to x[1.2.3.4]:25: Connection refused")
	f.Fuzz(func(t *testing.T, key string) {
		o := Parse(key)
		if len(o.Said) > maxSaid || strings.ContainsFunc(o.Said, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("said %q", o.Said)
		}
		if o.Verdict != Pass && (key[0] != '5' || Softened(key)[1:] != key[1:]) {
			t.Errorf("%q: verdict %v", key, o.Verdict)
		}
	})
}

func TestDoubts(t *testing.T) {
	t.Parallel()
	t0 := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	var d Doubts
	at := func(host string, after time.Duration, want bool) {
		t.Helper()
		if got := d.Soften(host, t0.Add(after)); got != want {
			t.Errorf("%s after %v: %v", host, after, got)
		}
	}
	at("mx1", 0, true)
	at("mx1", 14*time.Minute, true)
	at("mx1", 16*time.Minute, false) // the sender is told
	at("mx2", 20*time.Minute, true)
	at("mx1", 31*time.Minute, true)
	for i := range 3 * maxHosts {
		d.Soften(string(rune('a'+i%26))+strings.Repeat("x", i%4000)+string(rune(i)), t0)
	}
	if len(d.hosts) > maxHosts {
		t.Errorf("%d hosts kept", len(d.hosts))
	}
}
