package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"understudy/internal/delivery/postfixtest"
	"understudy/internal/freeport"
	"understudy/internal/smtpsink"
)

const mainCF = `myhostname = mx.milter.test
mynetworks = 0.0.0.0/0, [::]/0
recipient_delimiter =
smtputf8_enable = no
enable_long_queue_ids = yes
message_size_limit = 62914560
disable_mime_input_processing = yes
smtpd_authorized_xclient_hosts = 0.0.0.0/0
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_recipient_limit = 7000
smtpd_client_connection_count_limit = 0
smtpd_timeout = 600s
default_process_limit = 400
smtp_line_length_limit = 0
default_transport = smtp:[127.0.0.1]:%s
relay_transport = $default_transport
smtpd_milters = unix:sidecar/milter
non_smtpd_milters = unix:sidecar/milter
milter_default_action = tempfail
milter_protocol = 6
milter_content_timeout = 300s
milter_connect_macros = j {daemon_name} {daemon_addr} {daemon_port} v _ {client_addr} {client_port} {client_name} {client_ptr}
milter_mail_macros = i {auth_type} {auth_authen} {auth_author} {mail_addr} {mail_host} {mail_mailer} {tls_version} {client_addr} {daemon_name}
`

// transitCF is master.cf behind the address of the listener transit.
const transitCF = ` inet n - n - - smtpd
  -o cleanup_service_name=transit-cleanup
transit-cleanup unix n - n - 0 cleanup
  -o message_drop_headers=
`

// partsCF is that of the listener parts.
const partsCF = ` inet n - n - - smtpd
  -o cleanup_service_name=parts-cleanup
parts-cleanup unix n - n - 0 cleanup
  -o disable_mime_input_processing=no
`

// postfix is a real Postfix instance of a test's own.
type postfix struct {
	*postfixtest.Instance
	smtp    string // host:port
	transit string // of a listener that keeps all header fields, as the public one of ansible/
	parts   string // of one that looks at the parts of messages, as Postfix does without a setting
	socket  string // where its milter is to listen
	sink    *sink
}

// startPostfix starts an instance that relays all mail to a sink.
func startPostfix(t *testing.T) *postfix {
	t.Helper()
	p := &postfix{smtp: freeport.For(t), transit: freeport.For(t), parts: freeport.For(t), sink: newSink(t)}
	_, sinkPort, _ := net.SplitHostPort(p.sink.addr)
	p.Instance = postfixtest.New(t, postfixtest.Main+fmt.Sprintf(mainCF, sinkPort),
		p.smtp+" inet n - n - - smtpd\n"+p.transit+transitCF+p.parts+partsCF+postfixtest.Services)
	p.socket = p.Sidecar("milter")
	p.StartFor(t, p.smtp, p.transit, p.parts)
	return p
}

// startBoth starts an instance, and a service that archives what it gets.
func startBoth(t *testing.T, settings ...string) (*postfix, *service) {
	t.Helper()
	p := startPostfix(t)
	s := newService(t, p.socket, t.TempDir(), settings...)
	s.start(t)
	return p, s
}

// connect opens an SMTP session, until the test ends.
func (p *postfix) connect(t *testing.T) *client {
	t.Helper()
	return connectTo(t, p.smtp)
}

func connectTo(t *testing.T, addr string) *client {
	t.Helper()
	c, err := dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	return c
}

// sink is the SMTP server behind Postfix: it takes everything.
type sink struct {
	addr string

	mu       sync.Mutex
	messages []string
	discard  bool
}

func newSink(t *testing.T) *sink {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{addr: l.Addr().String()}
	srv := smtpsink.Start(l, s.take)
	t.Cleanup(func() { srv.Close() })
	return s
}

func (s *sink) take(message io.Reader) error {
	s.mu.Lock()
	discard := s.discard
	s.mu.Unlock()
	var b bytes.Buffer
	var w io.Writer = &b
	if discard {
		w = io.Discard
	}
	_, err := io.Copy(w, message)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !discard {
		s.messages = append(s.messages, b.String())
	}
	return err
}

// discardAll keeps no message from now on.
func (s *sink) discardAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.discard = true
}

// arrived returns what came so far.
func (s *sink) arrived() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.messages...)
}

// replyTimeout is how long the client waits for a reply and may send what
// follows it.
const replyTimeout = 5 * time.Minute

// client speaks SMTP as the test says, byte for byte.
type client struct {
	conn net.Conn
	in   *bufio.Reader
}

func dial(addr string) (*client, error) {
	conn, err := net.DialTimeout("tcp", addr, 2*time.Minute)
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
