package main

import (
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"understudy/internal/freeport"
)

const postfixMain = `
compatibility_level = 3.6
queue_directory = DIR/queue
data_directory = DIR/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = DIR/mail.log
maillog_file_prefixes = DIR
multi_instance_enable = no
myhostname = mx.example.test
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks =
mydestination =
alias_maps =
alias_database =
smtpd_peername_lookup = no
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
postlog unix-dgram n - n - 1 postlogd
anvil unix - - n - 1 anvil
rewrite unix - - n - - trivial-rewrite
cleanup unix n - n - 0 cleanup
proxymap unix - - n - - proxymap
tlsmgr unix - - n 1000? 1 tlsmgr
`

// postfix is a running Postfix whose smtpd asks a service.
type postfix struct{ smtp, single string }

// startPostfix runs a real Postfix in dir. The service must be up: an smtpd
// without mechanisms dies and is throttled.
func startPostfix(t *testing.T, dir string) *postfix {
	t.Helper()
	p := &postfix{smtp: freeport.For(t), single: freeport.For(t)}
	conf := filepath.Join(dir, "etc")
	for _, d := range []string{"etc", "data", "queue"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	main := strings.ReplaceAll(postfixMain, "DIR", dir)
	master := strings.NewReplacer("SMTP", p.smtp, "SINGLE", p.single).Replace(postfixMaster)
	for name, text := range map[string]string{"main.cf": main, "master.cf": master} {
		if err := os.WriteFile(filepath.Join(conf, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("chown", "postfix", filepath.Join(dir, "data")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := exec.Command("postfix", "-c", conf, "check").CombinedOutput(); err != nil {
		t.Fatalf("postfix check: %v: %s", err, out)
	}
	cmd := exec.Command("/usr/lib/postfix/sbin/master", "-c", conf, "-d")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var out lockedBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		<-ended
		if t.Failed() {
			text, _ := os.ReadFile(filepath.Join(dir, "mail.log"))
			t.Logf("mail.log:\n%s%s", text, &out)
		}
	})
	until(t, "Postfix answers", func() error {
		select {
		case <-ended:
			t.Fatalf("Postfix ended: %s", &out)
		default:
		}
		for _, address := range []string{p.smtp, p.single} {
			c, err := net.Dial("tcp", address)
			if err != nil {
				return err
			}
			c.Close()
		}
		return nil
	})
	return p
}

// saslService starts a service whose SASL socket is below Postfix's queue
// directory, where a chrooted smtpd would reach it too.
func saslService(t *testing.T, dir string, cfg *Config) *service {
	t.Helper()
	sidecar := filepath.Join(dir, "queue", "sidecar")
	if err := os.MkdirAll(sidecar, 0o755); err != nil {
		t.Fatal(err)
	}
	cfg.SASLListen = "unix:" + filepath.Join(sidecar, "sasl")
	shareWith(t, sidecar, "postfix")
	return start(t, cfg)
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
	saslService(t, dir, cfg)
	p := startPostfix(t, dir)
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
	cfg.Lockout.Failures = 2
	saslService(t, dir, cfg)
	p := startPostfix(t, dir)
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
	s := saslService(t, dir, cfg)
	p := startPostfix(t, dir)
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
