package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"understudy/internal/freeport"
)

const mainCF = `compatibility_level = 3.6
queue_directory = %[1]s/queue
data_directory = %[1]s/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = %[1]s/log
maillog_file_prefixes = %[1]s
multi_instance_enable = no
myhostname = mx.milter.test
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 0.0.0.0/0, [::]/0
mydestination =
alias_maps =
alias_database =
local_recipient_maps =
recipient_delimiter =
smtputf8_enable = no
enable_long_queue_ids = yes
local_header_rewrite_clients =
message_size_limit = 62914560
disable_mime_input_processing = yes
smtpd_peername_lookup = no
smtpd_authorized_xclient_hosts = 0.0.0.0/0
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_recipient_limit = 7000
smtpd_client_connection_count_limit = 0
smtpd_timeout = 60s
default_process_limit = 400
notify_classes =
smtp_dns_support_level = disabled
smtp_line_length_limit = 0
default_transport = smtp:[127.0.0.1]:%[2]s
relay_transport = $default_transport
smtpd_milters = unix:sidecar/milter
non_smtpd_milters = unix:sidecar/milter
milter_default_action = tempfail
milter_protocol = 6
milter_content_timeout = 300s
milter_connect_macros = j {daemon_name} {daemon_addr} {daemon_port} v _ {client_addr} {client_port} {client_name} {client_ptr}
milter_mail_macros = i {auth_type} {auth_authen} {auth_author} {mail_addr} {mail_host} {mail_mailer} {tls_version} {client_addr} {daemon_name}
`

const masterCF = `%[1]s inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - 50 smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
`

// postfix is a real Postfix instance of a test's own.
type postfix struct {
	dir    string
	smtp   string // host:port
	socket string // where its milter is to listen
	sink   *sink
}

// startPostfix starts an instance that relays all mail to a sink.
func startPostfix(t *testing.T) *postfix {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "um")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &postfix{dir: dir, smtp: freeport.For(t), sink: newSink(t), socket: filepath.Join(dir, "queue/sidecar/milter")}
	_, sinkPort, _ := net.SplitHostPort(p.sink.addr)
	files := map[string]string{"main.cf": fmt.Sprintf(mainCF, dir, sinkPort), "master.cf": fmt.Sprintf(masterCF, p.smtp)}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	uid, gid := account(t, "postfix")
	for _, d := range []struct {
		name     string
		mode     os.FileMode
		uid, gid int
	}{
		{"", 0o755, 0, 0}, {"queue", 0o755, 0, 0}, {"data", 0o700, uid, gid},
		{"queue/sidecar", 0o750 | os.ModeSetgid, 0, gid}, // as in production: the socket gets Postfix's group
	} {
		path := filepath.Join(dir, d.name)
		if err := errors.Join(os.MkdirAll(path, 0o755), os.Chown(path, d.uid, d.gid), os.Chmod(path, d.mode)); err != nil {
			t.Fatal(err)
		}
	}
	p.run(t, "start")
	t.Cleanup(func() {
		p.run(t, "stop")
		if log, err := os.ReadFile(filepath.Join(dir, "log")); err == nil && t.Failed() {
			t.Logf("Postfix's log ends:\n%s", log[max(0, len(log)-4000):])
		}
	})
	eventually(t, "Postfix listens", func() error {
		c, err := net.Dial("tcp", p.smtp)
		if err == nil {
			c.Close()
		}
		return err
	})
	return p
}

func (p *postfix) run(t *testing.T, command string) {
	t.Helper()
	if out, err := exec.Command("postfix", "-c", p.dir, command).CombinedOutput(); err != nil {
		log, _ := os.ReadFile(filepath.Join(p.dir, "log"))
		t.Errorf("postfix %s: %v\n%s\n%s", command, err, out, log)
	}
}

func account(t *testing.T, name string) (uid, gid int) {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	uid, _ = strconv.Atoi(u.Uid)
	gid, _ = strconv.Atoi(u.Gid)
	return uid, gid
}

// sink is the SMTP server behind Postfix: it takes everything.
type sink struct {
	addr string

	mu       sync.Mutex
	messages []string
	discard  bool
	count    int
}

func newSink(t *testing.T) *sink {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{addr: l.Addr().String()}
	srv := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &sinkSession{s}, nil }))
	srv.Domain, srv.MaxLineLength, srv.MaxMessageBytes = "sink.test", 1<<20, 1<<30
	srv.ErrorLog = discardLog{}
	go srv.Serve(l) //nolint:errcheck // ends with Close
	t.Cleanup(func() { srv.Close() })
	return s
}

type discardLog struct{}

func (discardLog) Printf(string, ...any) {}
func (discardLog) Println(...any)        {}

type sinkSession struct{ *sink }

func (sinkSession) Reset()                               {}
func (sinkSession) Logout() error                        { return nil }
func (sinkSession) Mail(string, *smtp.MailOptions) error { return nil }
func (sinkSession) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (s sinkSession) Data(r io.Reader) error {
	s.mu.Lock()
	discard := s.discard
	s.mu.Unlock()
	var b bytes.Buffer
	var w io.Writer = &b
	if discard {
		w = io.Discard
	}
	_, err := io.Copy(w, r)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	if !discard {
		s.messages = append(s.messages, b.String())
	}
	return err
}

// arrived returns what came so far.
func (s *sink) arrived() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.messages...)
}

// replyTimeout is how long the client waits for a reply and may send what
// follows it.
const replyTimeout = time.Minute

// client speaks SMTP as the test says, byte for byte.
type client struct {
	conn net.Conn
	in   *bufio.Reader
}

func dial(addr string) (*client, error) {
	conn, err := net.DialTimeout("tcp", addr, 30*time.Second)
	if err != nil {
		return nil, err
	}
	c := &client{conn, bufio.NewReader(conn)}
	if reply := c.reply(); !strings.HasPrefix(reply, "220") {
		conn.Close()
		return nil, fmt.Errorf("greeting: %s", reply)
	}
	if reply := c.command("EHLO client.test"); !strings.HasPrefix(reply, "250") {
		conn.Close()
		return nil, fmt.Errorf("EHLO: %s", reply)
	}
	return c, nil
}

// reply reads one reply; trouble with the connection reads as "".
func (c *client) reply() string {
	c.conn.SetDeadline(time.Now().Add(replyTimeout)) //nolint:errcheck // the read tells
	var all strings.Builder
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			return ""
		}
		all.WriteString(line)
		if len(line) < 4 || line[3] != '-' {
			return strings.TrimSpace(all.String())
		}
	}
}

func (c *client) command(line string) string {
	if _, err := io.WriteString(c.conn, line+"\r\n"); err != nil {
		return ""
	}
	return c.reply()
}

// envelope sends MAIL and RCPTs and returns the first reply that is not 2xx.
func (c *client) envelope(from string, to ...string) string {
	reply := c.command("MAIL FROM:<" + from + ">")
	for _, r := range to {
		if !strings.HasPrefix(reply, "2") {
			break
		}
		reply = c.command("RCPT TO:<" + r + ">")
	}
	return reply
}

// data sends a message: dots are stuffed, the rest is sent as it is.
func (c *client) data(message []byte) string {
	if reply := c.command("DATA"); !strings.HasPrefix(reply, "354") {
		return reply
	}
	out := bufio.NewWriterSize(c.conn, 64<<10)
	for line := range bytes.Lines(message) {
		if line[0] == '.' {
			out.WriteByte('.') //nolint:errcheck // Flush tells
		}
		out.Write(line) //nolint:errcheck
	}
	if len(message) > 0 && message[len(message)-1] != '\n' {
		out.WriteString("\r\n") //nolint:errcheck
	}
	out.WriteString(".\r\n") //nolint:errcheck
	if out.Flush() != nil {
		return ""
	}
	return c.reply()
}

// send is a whole transaction.
func (c *client) send(from string, message []byte, to ...string) string {
	if reply := c.envelope(from, to...); !strings.HasPrefix(reply, "2") {
		c.command("RSET")
		return reply
	}
	return c.data(message)
}

func (c *client) close() { c.conn.Close() }
