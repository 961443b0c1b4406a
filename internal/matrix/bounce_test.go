package matrix

import (
	"fmt"
	"net"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"understudy/internal/nexthop"
	"understudy/internal/stack"
)

// removed is a mailbox that goes while a message for it waits for the portal.
const removed = "gone@removed.test"

// portalRefuses: a message is bound to the portal, which then knows its
// recipient no more and answers 550. It stays queued: the sender, who may be
// forged, gets no bounce.
func (w *world) portalRefuses(t *testing.T) {
	ctx := t.Context()
	if err := w.stack.Stop(ctx, stack.Dovecot); err != nil {
		t.Fatal(err)
	}
	if no, _, err := w.send("removed@internet.test", []string{removed}, "removed", 0); err != nil || len(no) > 0 {
		t.Fatalf("%v, %v", no, err)
	}
	reason := func(part string) func() bool {
		return func() bool {
			why, _ := w.queue.look(w.stack.Info.PostfixConfig, removed, 0)
			return strings.Contains(why, part)
		}
	}
	until(t, "deferred for the portal", reason("dovecot-lmtp"))
	if _, err := w.stack.CLI(ctx, "", "mailbox", "remove", "--yes", removed); err != nil {
		t.Fatal(err)
	}
	if err := w.stack.Start(ctx, stack.Dovecot); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(ctx, "postqueue", "-c", w.stack.Info.PostfixConfig, "-f").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	until(t, "refused by the portal, and queued", reason("said: 550 5.1.1"))
	if n := w.bounces.count(w.stack.Info.Internet.Maildir, "removed@internet.test", removed); n > 0 {
		t.Errorf("%d bounces", n)
	}
}

// findHosts: what the programs find that speak to a primary without Postfix.
func findHosts(t *testing.T) {
	for _, tt := range []struct {
		primary string
		want    []string
		err     string
	}{
		{"mx:good.dns.test", []string{"host.dns.test:25"}, ""},
		{"mx:second.dns.test:2525", []string{"none.dns.test:2525", "host.dns.test:2525"}, ""},
		{"mx:host.dns.test", []string{"host.dns.test:25"}, ""}, // no MX: the name itself
		{"mx:gone.dns.test", []string{"gone.dns.test:25"}, ""},
		{"mx:null.dns.test", nil, "null MX"},
		{"mx:servfail.dns.test", nil, "look up MX hosts"},
		{"host.dns.test:26", []string{"host.dns.test:26"}, ""},
	} {
		got, err := nexthop.Hosts(t.Context(), tt.primary)
		if !slices.Equal(got, tt.want) || (err != nil) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %q, %v; want %q, %q", tt.primary, got, err, tt.want, tt.err)
		}
	}
}

// refusesInSession: what cannot be delivered is refused while the sender is
// still there: the extensions say so, and so do the replies.
func (w *world) refusesInSession(t *testing.T) {
	conn, err := net.DialTimeout("tcp", w.stack.Info.SMTP, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(2 * time.Minute)) //nolint:errcheck // a TCP connection takes deadlines
	c := textproto.NewConn(conn)
	for _, step := range []struct{ say, want, never string }{
		{"", "220 ", ""},
		{"EHLO client.test", "SIZE 62914560", "SMTPUTF8"},
		{"MAIL FROM:<a@internet.test> SIZE=62914561", "552 5.3.4", ""},
		{"MAIL FROM:<a@internet.test> SMTPUTF8", "555 5.5.4", ""},
	} {
		if step.say != "" {
			if err := c.PrintfLine("%s", step.say); err != nil {
				t.Fatal(err)
			}
		}
		code, text, err := c.ReadResponse(0)
		if err != nil {
			t.Fatal(err)
		}
		if reply := fmt.Sprint(code, " ", text); !strings.Contains(reply, step.want) || step.never != "" && strings.Contains(reply, step.never) {
			t.Errorf("%q: %q, want %q", step.say, reply, step.want)
		}
	}
}

// strangersAtReentry: another user of this machine cannot reach the portal
// past the archive.
func (w *world) strangersAtReentry(t *testing.T) {
	for _, port := range []string{w.reentryPort(t), w.fallbackPort(t)} {
		talk := fmt.Sprintf(`exec 3<>/dev/tcp/127.0.0.1/%s && printf 'EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<ana@healthy.test>\r\nQUIT\r\n' >&3 && cat <&3`, port)
		for uid, want := range map[uint32]string{65534: "450 4.7.1", 0: "250 2.1.5"} {
			cmd := exec.CommandContext(t.Context(), "/bin/bash", "-c", talk)
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), want) {
				t.Errorf("port %s, user %d: %v, want %s:\n%s", port, uid, err, want, out)
			}
		}
	}
}

// fallbackPort is where relay-auto's failed attempts go.
func (w *world) fallbackPort(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "postconf", "-c", w.stack.Info.PostfixConfig, "-h", "-P", "relay-auto/unix/smtp_fallback_relay").Output()
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// reentryPort is the worker's way in, as its configuration says.
func (w *world) reentryPort(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(w.stack.Dir(), "etc", "worker.yml"))
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(strings.Trim(after(string(text), "\nreentry_address: "), `"`))
	if err != nil {
		t.Fatal(err)
	}
	return port
}
