package main

import (
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"understudy/internal/directory"
	"understudy/policyd/policytest"
)

// postmap looks up a key with Postfix's own client; found is false for
// NOTFOUND. Trouble is an error with what postmap says.
func postmap(p *postfix, c *Config, name, key string) (value string, found bool, err error) {
	cmd := exec.Command("postmap", "-c", p.dir+"/etc", "-q", key, "socketmap:"+c.SocketmapListen+":"+name)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 && stderr.Len() == 0 {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("%w: %s", err, stderr.String())
	}
	return strings.TrimSuffix(string(out), "\n"), true, nil
}

// wired returns a configuration with its sockets where p looks for them.
func wired(t *testing.T, p *postfix) *Config {
	t.Helper()
	c := newConfig(t)
	c.PolicyListen, c.SocketmapListen = "unix:"+p.dir+"/queue/sidecar/policy", "unix:"+p.dir+"/queue/sidecar/socketmap"
	return c
}

func TestPostmap(t *testing.T) {
	t.Parallel()
	p := newPostfix(t)
	c := wired(t, p)
	s, _ := startService(t, c)
	if _, _, err := postmap(p, c, "transport", "ana@example.test"); err == nil || !strings.Contains(err.Error(), "not loaded") {
		t.Errorf("directory not loaded: %v, want a temporary error", err)
	}
	policytest.Load(s.dir, policytest.Example())
	const hop = "[192.0.2.1]:25,[192.0.2.2]:2525"
	tests := []struct{ name, key, want string }{
		{"transport", "ana@example.test", "relay-auto:" + hop},
		{"transport", "Dora+x@EXAMPLE.test", "relay-hold:" + hop},
		{"transport", "x@elsewhere.test", ""},
		{"transport", "*", ""},
		{"relay_domains", "example.test", "example.test"},
		{"relay_domains", "elsewhere.test", ""},
		{"probe", "ana@example.test", "probe-auto:" + hop},
		{"probe", "nobody@example.test", "probe:" + hop},
		{"sender_login", "info+x@example.test", "ana@example.test"},
		{"sender_login", "dora@example.test", "*nobody*"},
	}
	for _, tt := range tests {
		got, found, err := postmap(p, c, tt.name, tt.key)
		if err != nil || got != tt.want || found != (tt.want != "") {
			t.Errorf("%s %q: got %q, %v, %v; want %q", tt.name, tt.key, got, found, err, tt.want)
		}
	}
	if _, _, err := postmap(p, c, "virtual", "x"); err == nil || !strings.Contains(err.Error(), "no such map") {
		t.Errorf("unknown map: %v", err)
	}
}

// TestPostfixAsks lets a real Postfix ask in each of its places, and reads
// what its clients are told.
func TestPostfixAsks(t *testing.T) {
	t.Parallel()
	p := newPostfix(t)
	c := wired(t, p)
	healthy := policytest.Example().With(func(d *policytest.Domain) {
		d.Primaries = []string{startPrimary(t, "ana", "dora")}
	})
	down := healthy.With(func(d *policytest.Domain) { d.PrimaryFailing = true })
	outage := down.With(func(d *policytest.Domain) { d.Mode = directory.Emergency })
	saveDirectory(t, c, healthy)
	s, stop := startService(t, c)
	greetSASL(t, p.dir+"/queue/sidecar/sasl")
	p.start(t)

	const world = "x@elsewhere.test"
	type step struct {
		name, server string
		envelope
		want string
	}
	play := func(steps ...step) {
		t.Helper()
		for _, st := range steps {
			if st.mail == "" {
				st.mail = world
			}
			if got := answer(t, st.server, st.envelope); !strings.HasPrefix(got, st.want) {
				t.Errorf("%s: got %q, want %q", st.name, got, st.want)
			}
		}
	}
	to := func(rcpt string) envelope { return envelope{rcpt: rcpt} }

	play(
		step{"normal, the primary knows", p.public, to("dora@example.test"), "250 2.1.5 "},
		step{"normal, the primary does not know", p.public, to("nobody@example.test"), "550 5.1.1 <nobody@example.test>: Recipient address rejected"},
		step{"foreign domain", p.public, to(world), "554 5.7.1 <x@elsewhere.test>: Relay access denied"},
		step{"customer's server to the world", p.public, envelope{from: "127.0.0.2", mail: "ana@example.test", rcpt: world}, "250 2.1.5 "},
		step{"customer's server, not its sender", p.public, envelope{from: "127.0.0.2", mail: "y@elsewhere.test", rcpt: world},
			"553 5.7.1 <x@elsewhere.test>: Recipient address rejected: <y@elsewhere.test>: Sender address not owned by this client"},
		step{"stranger with the customer's sender", p.public, envelope{from: "127.0.0.3", mail: "ana@example.test", rcpt: world}, "554 5.7.1 "},
		step{"submission to the world", p.submission, to(world), "250 2.1.5 "},
		step{"re-entry, registered", p.reentry, to("ana@example.test"), "250 2.1.5 "},
		step{"re-entry, unregistered", p.reentry, to("dora@example.test"), "450 4.2.0 <dora@example.test>: Recipient address rejected: Kept"},
	)
	policytest.Load(s.dir, down)
	play(
		step{"failing, registered", p.public, to("Ana+List@example.test"), "250 2.1.5 "},
		step{"failing, unregistered", p.public, to("dora@example.test"), "450 4.4.1 "},
	)
	policytest.Load(s.dir, outage)
	play(
		step{"emergency, registered", p.public, to("ana@example.test"), "250 2.1.5 "},
		step{"emergency, unregistered", p.public, to("dora@example.test"), "550 5.1.1 <dora@example.test>: Recipient address rejected: User unknown"},
		step{"emergency, submission to a colleague", p.submission, to("bruno@example.test"), "250 2.1.5 "},
		step{"emergency, submission, unregistered", p.submission, to("dora@example.test"), "550 5.1.1 "},
		step{"own address", p.signed, envelope{user: "ana@example.test", mail: "ana@example.test", rcpt: world}, "250 2.1.5 "},
		step{"own alias with detail", p.signed, envelope{user: "ana@example.test", mail: "info+x@example.test", rcpt: world}, "250 2.1.5 "},
		step{"a colleague's address", p.signed, envelope{user: "ana@example.test", mail: "bruno@example.test", rcpt: world}, "553 5.7.1 "},
		step{"an unregistered address", p.signed, envelope{user: "ana@example.test", mail: "dora@example.test", rcpt: world}, "553 5.7.1 "},
		step{"a foreign address", p.signed, envelope{user: "ana@example.test", mail: world, rcpt: world}, "553 5.7.1 "},
	)
	stop()
	play(
		step{"policyd gone", p.public, to("ana@example.test"), "451 4.3."},
		step{"policyd gone, re-entry", p.reentry, to("ana@example.test"), "451 4.3."},
		step{"policyd gone, submission", p.submission, to("ana@example.test"), "451 4.3.5 "},
	)
	saveDirectory(t, c, outage)
	startService(t, c)
	healthIs(t, c, http.StatusOK)
	play(step{"policyd is back", p.public, to("ana@example.test"), "250 2.1.5 "})
}
