package main

import (
	"bufio"
	"fmt"
	"net"
	"net/textproto"
	"os"
	osexec "os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nikolalohinski/gonja/v2"
	"github.com/nikolalohinski/gonja/v2/exec"

	"understudy/internal/dovecottest"
	"understudy/internal/freeport"
)

const drainPassword = "master-secret"

// dovecot is a running Dovecot whose Lua script asks a service.
type dovecot struct{ imap, pop3, lmtp string }

// dovecotConf is the configuration for the installed release.
func dovecotConf(t *testing.T) string {
	t.Helper()
	version, err := osexec.Command("dovecot", "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("testdata/dovecot-" + string(version[:3]) + ".conf")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// startDovecot runs a real Dovecot in dir, with the sockets of cfg.
func startDovecot(t *testing.T, dir string, cfg *Config) *dovecot {
	t.Helper()
	d := &dovecot{imap: freeport.For(t), pop3: freeport.For(t), lmtp: freeport.For(t)}
	socket := strings.TrimPrefix(cfg.LuaListen, "unix:")
	shareWith(t, filepath.Dir(socket), "dovecot")
	port := func(address string) string { _, p, _ := net.SplitHostPort(address); return p }
	conf := strings.NewReplacer("DIR", dir, "IMAP", port(d.imap), "POP3", port(d.pop3), "LMTP", port(d.lmtp)).Replace(dovecotConf(t))
	server := dovecottest.New(t, dir, d.imap, d.pop3, d.lmtp)
	server.Write("dovecot.conf", conf)
	server.Write("masters", "drain:"+drainPassword+"\n")
	server.Write("understudy-auth.lua", renderScript(t, socket))
	server.Run()
	return d
}

// shareWith gives a directory's new sockets a group, as deployment does.
func shareWith(t *testing.T, dir, group string) {
	t.Helper()
	g, err := user.LookupGroup(group)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, 0, gid); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o750|os.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	sockets, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, s := range sockets { // of a service that was started before
		if err := os.Chown(s, 0, gid); err != nil {
			t.Fatal(err)
		}
	}
}

// renderScript renders the role's template as Ansible does.
func renderScript(t *testing.T, socket string) string {
	t.Helper()
	tpl, err := gonja.FromFile("../ansible/roles/dovecot/templates/understudy-auth.lua.j2")
	if err != nil {
		t.Fatal(err)
	}
	text, err := tpl.ExecuteToString(exec.NewContext(map[string]any{"understudy_auth_lua_socket": socket}))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// client is a connection of a line protocol.
type client struct {
	t *testing.T
	*textproto.Conn
	conn net.Conn
}

func dial(t *testing.T, address string) *client {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(3 * time.Minute))
	return &client{t: t, Conn: textproto.NewConn(c), conn: c}
}

// line reads one line; an end of the connection is given as text.
func (c *client) line() string {
	c.t.Helper()
	l, err := c.ReadLine()
	if err != nil {
		return "closed: " + err.Error()
	}
	return l
}

// say sends a line and reads one.
func (c *client) say(format string, args ...any) string {
	c.t.Helper()
	if err := c.PrintfLine(format, args...); err != nil {
		return "closed: " + err.Error()
	}
	return c.line()
}

// imap sends a command and returns its untagged lines and its tagged one.
func (c *client) imap(format string, args ...any) (untagged []string, tagged string) {
	c.t.Helper()
	for l := c.say("a "+format, args...); ; l = c.line() {
		if strings.HasPrefix(l, "* ") {
			untagged = append(untagged, l)
			continue
		}
		return untagged, l
	}
}

// imapLogin logs in and returns the connection and the reply.
func imapLogin(t *testing.T, d *dovecot, user, secret string) (*client, string) {
	t.Helper()
	c := dial(t, d.imap)
	c.line()
	_, reply := c.imap("LOGIN %s %s", quote(user), quote(secret))
	return c, reply
}

// quote makes an IMAP quoted string (RFC 9051 section 4.3).
func quote(s string) string { return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"` }

// pop3Login returns the reply to PASS.
func pop3Login(t *testing.T, d *dovecot, user, secret string) (*client, string) {
	t.Helper()
	c := dial(t, d.pop3)
	c.line()
	c.say("USER %s", user)
	return c, c.say("PASS %s", secret)
}

// deliver hands a message over by LMTP; it returns the reply to RCPT, or if
// that was fine the one to the message.
func deliver(t *testing.T, d *dovecot, recipient string, size int) string {
	t.Helper()
	c := dial(t, d.lmtp)
	c.line()
	c.PrintfLine("LHLO client.example.test")
	c.ReadResponse(250)
	c.say("MAIL FROM:<sender@example.org>")
	if reply := c.say("RCPT TO:<%s>", recipient); !strings.HasPrefix(reply, "250") {
		return reply
	}
	c.say("DATA")
	w := bufio.NewWriter(c.DotWriter())
	fmt.Fprintf(w, "From: sender@example.org\r\nSubject: to %s\r\n\r\n", recipient)
	for range size / 64 {
		w.WriteString(strings.Repeat("x", 62) + "\r\n")
	}
	w.Flush()
	return c.say(".")
}

// parallel runs f n times at once.
func parallel(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}
