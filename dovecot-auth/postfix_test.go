package main

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"understudy/internal/delivery/postfixtest"
	"understudy/internal/freeport"
)

const postfixMain = `
myhostname = mx.example.test
mynetworks =
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = sidecar/sasl
smtpd_sasl_service = submission
smtpd_relay_restrictions = permit_sasl_authenticated, reject
`

// The one smtpd takes all connections, one after the other: that is how an
// idle connection to a service that was restarted is met.
const postfixMaster = `
SMTP inet n - n - 20 smtpd
SINGLE inet n - n - 1 smtpd
`

// postfix is a real Postfix whose smtpd asks a service.
type postfix struct {
	*postfixtest.Instance
	smtp, single string
}

// startPostfix starts Postfix and the service that it asks: this first, for an
// smtpd without mechanisms dies and is throttled.
func startPostfix(t *testing.T, cfg *Config) (*postfix, *service) {
	t.Helper()
	p := &postfix{smtp: freeport.For(t), single: freeport.For(t)}
	master := strings.NewReplacer("SMTP", p.smtp, "SINGLE", p.single).Replace(postfixMaster)
	p.Instance = postfixtest.New(t, postfixtest.Main+postfixMain, master+postfixtest.Services)
	cfg.SASLListen = "unix:" + p.Sidecar("sasl")
	s := start(t, cfg)
	p.StartFor(t, p.smtp, p.single)
	return p, s
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// ehlo opens an SMTP session and returns the extensions offered.
func ehlo(t *testing.T, address string) (*client, string) {
	t.Helper()
	c := dial(t, address)
	c.line()
	if err := c.PrintfLine("EHLO client.example.test"); err != nil {
		t.Fatal(err)
	}
	_, text, err := c.ReadResponse(250)
	if err != nil {
		t.Fatal(err)
	}
	return c, text
}

func (c *client) plain(user, secret string) string {
	c.t.Helper()
	return c.say("AUTH PLAIN %s", b64("\x00"+user+"\x00"+secret))
}

// login plays LOGIN with the user name in the first line or asked for.
func (c *client) login(user, secret string, initial bool) string {
	c.t.Helper()
	reply := ""
	if initial {
		reply = c.say("AUTH LOGIN %s", b64(user))
	} else {
		if reply = c.say("AUTH LOGIN"); reply != "334 "+b64("Username:") {
			return reply
		}
		reply = c.say("%s", b64(user))
	}
	if reply != "334 "+b64("Password:") {
		return reply
	}
	return c.say("%s", b64(secret))
}

func TestPostfixSASL(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	cfg := newConfig(t, dir, people())
	p, _ := startPostfix(t, cfg)
	if _, text := ehlo(t, p.smtp); !strings.Contains(text, "AUTH PLAIN LOGIN") {
		t.Errorf("EHLO: %s", text)
	}
	for _, tc := range []struct{ name, user, password, want string }{
		{"right", "ana@example.test", anaPassword, "235 2.7.0 "},
		{"alias", "Sales@Example.Test", anaPassword, "235 2.7.0 "},
		{"app password", "ana@example.test", hashes().app, "235 2.7.0 "},
		{"UTF-8 name", "\u00e9lodie@example.test", password2, "235 2.7.0 "},
		{"wrong", "bruno@example.test", "wrong", "535 5.7.8 "},
		{"empty", "bruno@example.test", "", "535 5.7.8 "},
		{"unknown", "nobody@example.test", password2, "535 5.7.8 "},
		{"disabled", "carla@example.test", password2, "535 5.7.8 "},
		{"outbound account", "relay-1", password2, "235 2.7.0 "},
		{"outbound account, upper case", "Relay-1", password2, "235 2.7.0 "},
		{"outbound account, wrong", "relay-1", "wrong", "535 5.7.8 "},
		{"outbound account, not enabled", "relay-off", password2, "535 5.7.8 "},
		{"no address", "root", password2, "535 5.7.8 "},
		{"control characters", "a\tb\n\x01@example.test", password2, "535 5.7.8 "},
		{"endless", "elodie@example.test", strings.Repeat("x", 6000), "535 5.7.8 "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for how, f := range map[string]func(*client) string{
				"PLAIN":          func(c *client) string { return c.plain(tc.user, tc.password) },
				"LOGIN":          func(c *client) string { return c.login(tc.user, tc.password, false) },
				"LOGIN, initial": func(c *client) string { return c.login(tc.user, tc.password, true) },
				"PLAIN, two steps": func(c *client) string {
					if reply := c.say("AUTH PLAIN"); reply != "334 " {
						return reply
					}
					return c.say("%s", b64("\x00"+tc.user+"\x00"+tc.password))
				},
			} {
				c, _ := ehlo(t, p.smtp)
				reply := f(c)
				if tc.name == "endless" && strings.HasPrefix(reply, "500 5.5.6 ") {
					continue // smtpd itself cuts a continuation
				}
				wantPrefix(t, how, reply, tc.want)
			}
		})
	}
	t.Run("one session", func(t *testing.T) {
		c, _ := ehlo(t, p.smtp)
		wantPrefix(t, "wrong", c.plain("elodie@example.test", "wrong"), "535 5.7.8 ")
		wantPrefix(t, "not base64", c.say("AUTH PLAIN !!!"), "535 5.7.8 ")
		wantPrefix(t, "empty response", c.say("AUTH PLAIN ="), "535 5.7.8 ")
		wantPrefix(t, "cancel", func() string { c.say("AUTH LOGIN"); return c.say("*") }(), "501 5.7.0 ")
		wantPrefix(t, "another identity", c.say("AUTH PLAIN %s", b64("ana@example.test\x00elodie@example.test\x00"+password2)), "535 5.7.8 ")
		wantPrefix(t, "right", c.login("elodie@example.test", password2, false), "235 2.7.0 ")
		wantPrefix(t, "relay", c.say("MAIL FROM:<elodie@example.test>"), "250 ")
		wantPrefix(t, "relay", c.say("RCPT TO:<somebody@example.org>"), "250 ")
	})
}

func TestPostfixSASLLocked(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	cfg := newConfig(t, dir, people())
	cfg.Lockout.Failures, cfg.Lockout.Delay = 2, 10*time.Minute
	p, _ := startPostfix(t, cfg)
	c, _ := ehlo(t, p.smtp)
	for n := range 2 {
		wantPrefix(t, "wrong", c.plain("ana@example.test", fmt.Sprint("wrong ", n)), "535 5.7.8 ")
	}
	reply := c.plain("ana@example.test", anaPassword)
	wantPrefix(t, "right while locked", reply, "535 5.7.8 ")
	if !strings.Contains(reply, "Too many wrong passwords. Try again in ") {
		t.Errorf("the reason is missing: %s", reply)
	}
}

// Trouble is 454, which tells a mail program to try again and not to ask for
// another password.
func TestPostfixSASLTrouble(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	cfg := newConfig(t, dir, nil)
	p, s := startPostfix(t, cfg)
	c, _ := ehlo(t, p.single)
	for range 2 {
		wantPrefix(t, "not loaded, PLAIN", c.plain("ana@example.test", anaPassword), "454 4.7.0 ")
		wantPrefix(t, "not loaded, LOGIN", c.login("ana@example.test", anaPassword, false), "454 4.7.0 ")
	}
	s.stop()
	wantPrefix(t, "down", c.plain("ana@example.test", anaPassword), "454 4.7.0 ")
	newConfig(t, dir, people()) // saves the directory
	s = start(t, cfg)
	wantPrefix(t, "back", c.plain("ana@example.test", anaPassword), "235 2.7.0 ")
	c.say("QUIT")

	s.stop()
	start(t, cfg)
	c, _ = ehlo(t, p.single)
	wantPrefix(t, "restarted while the smtpd was idle", c.plain("ana@example.test", anaPassword), "235 2.7.0 ")
}
