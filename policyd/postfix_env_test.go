package main

import (
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"understudy/internal/freeport"
	"understudy/internal/listen"
)

// postfix is a real Postfix below a temporary directory, wired to policyd's
// sockets as an installation is.
type postfix struct {
	dir                                 string // with etc/, queue/, data/, log/
	public, reentry, submission, signed string // host:port of each smtpd
}

// The smtpds differ in what they ask: "signed" knows who is signed in, by
// XCLIENT, and wants the sender to be that login's.
const (
	mainCf = `compatibility_level = 3.6
queue_directory = %[1]s/queue
data_directory = %[1]s/data
maillog_file = %[1]s/log/mail.log
maillog_file_prefixes = %[1]s
multi_instance_enable = no
myhostname = mx.provider.test
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.100/32
alias_maps =
alias_database =
local_recipient_maps =
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
smtpd_error_sleep_time = 0
relay_recipient_maps =
relay_domains = socketmap:unix:sidecar/socketmap:relay_domains
transport_maps = socketmap:unix:sidecar/socketmap:transport
address_verify_transport_maps = socketmap:unix:sidecar/socketmap:probe
address_verify_map =
address_verify_poll_delay = 1s
address_verify_poll_count = 120
unverified_recipient_reject_code = 550
unverified_recipient_defer_code = 250
policy_gone = default_action = 451 4.3.5 policy unavailable
ask_relay = check_policy_service { unix:sidecar/policy, policy_context=relay, timeout=10s, { $policy_gone } }
ask_recipient = check_policy_service { unix:sidecar/policy, policy_context=recipient, timeout=10s, { $policy_gone } }
ask_submission = check_policy_service { unix:sidecar/policy, policy_context=submission, timeout=10s, { $policy_gone } }
ask_reentry = check_policy_service { unix:sidecar/policy, policy_context=reentry, timeout=10s, { $policy_gone } }
smtpd_relay_restrictions = $ask_relay, reject_unauth_destination
smtpd_recipient_restrictions = $ask_recipient
smtpd_sender_login_maps = socketmap:unix:sidecar/socketmap:sender_login
`
	masterCf = `%s inet n - y - - smtpd
%s inet n - y - - smtpd
  -o smtpd_relay_restrictions=reject_unauth_destination
  -o smtpd_recipient_restrictions=$ask_reentry
%s inet n - y - - smtpd
  -o mynetworks=127.0.0.1/32
  -o smtpd_relay_restrictions=permit_mynetworks,reject
  -o smtpd_recipient_restrictions=$ask_submission,permit
%s inet n - y - - smtpd
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_sasl_type=dovecot
  -o smtpd_sasl_path=sidecar/sasl
  -o smtpd_authorized_xclient_hosts=127.0.0.1
  -o smtpd_sender_restrictions=reject_sender_login_mismatch
  -o mynetworks=127.0.0.1/32
  -o smtpd_relay_restrictions=permit_mynetworks,reject
  -o smtpd_recipient_restrictions=$ask_submission,permit
probe     unix  -       -       y       -       -       smtp
probe-auto unix -       -       y       -       -       smtp
  -o smtp_connect_timeout=2s
pickup    unix  n       -       y       60      1       pickup
cleanup   unix  n       -       y       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
rewrite   unix  -       -       y       -       -       trivial-rewrite
bounce    unix  -       -       y       -       0       bounce
defer     unix  -       -       y       -       0       bounce
trace     unix  -       -       y       -       0       bounce
verify    unix  -       -       y       -       1       verify
flush     unix  n       -       y       1000?   0       flush
proxymap  unix  -       -       n       -       -       proxymap
smtp      unix  -       -       y       -       -       smtp
relay     unix  -       -       y       -       -       smtp
error     unix  -       -       y       -       -       error
retry     unix  -       -       y       -       -       error
anvil     unix  -       -       y       -       1       anvil
postlog   unix-dgram n  -       n       -       1       postlogd
`
)

// newPostfix prepares an instance; its sockets are to be in queue/sidecar.
func newPostfix(t *testing.T) *postfix {
	t.Helper()
	dir, err := os.MkdirTemp("", "policyd-postfix-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &postfix{dir: dir, public: freeport.For(t), reentry: freeport.For(t), submission: freeport.For(t), signed: freeport.For(t)}
	u, err := user.Lookup("postfix")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	err = os.Chmod(dir, 0o755) // Postfix's own processes pass through it
	for _, sub := range []string{"etc", "queue", "log", "data", "queue/sidecar"} {
		if err == nil {
			err = os.Mkdir(filepath.Join(dir, sub), 0o755)
		}
	}
	for _, step := range []func() error{
		func() error { return os.Chown(dir+"/data", uid, gid) },
		func() error { return os.Chown(dir+"/queue/sidecar", 0, gid) },
		func() error { return os.Chmod(dir+"/queue/sidecar", 0o750|os.ModeSetgid) },
		func() error { return os.WriteFile(dir+"/etc/main.cf", fmt.Appendf(nil, mainCf, dir), 0o644) },
		func() error {
			return os.WriteFile(dir+"/etc/master.cf", fmt.Appendf(nil, masterCf, p.public, p.reentry, p.submission, p.signed), 0o644)
		},
	} {
		if err == nil {
			err = step()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// start starts Postfix and waits until it answers.
func (p *postfix) start(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("postfix", "-c", p.dir+"/etc", "start").CombinedOutput(); err != nil {
		t.Fatalf("postfix start: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(p.dir + "/log/mail.log")
			t.Logf("mail.log:\n%s", log)
		}
		if out, err := exec.Command("postfix", "-c", p.dir+"/etc", "stop").CombinedOutput(); err != nil {
			t.Errorf("postfix stop: %v: %s", err, out)
		}
	})
	eventually(t, func() error {
		c, err := net.DialTimeout("tcp", p.public, 10*time.Second)
		if err == nil {
			c.Close()
		}
		return err
	})
}

// envelope is what one SMTP client says.
type envelope struct {
	from string // the client's IP address, 127.0.0.1 if empty
	user string // signed in as
	mail string
	rcpt string
	utf8 bool // RFC 6531
}

// answer plays an envelope to an smtpd and returns the reply to MAIL, if that
// is no 250, or else to RCPT.
func answer(t *testing.T, server string, e envelope) string {
	t.Helper()
	if e.from == "" {
		e.from = "127.0.0.1"
	}
	d := net.Dialer{Timeout: time.Minute, LocalAddr: &net.TCPAddr{IP: net.ParseIP(e.from)}}
	conn, err := d.Dial("tcp", server)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(3 * time.Minute)) //nolint:errcheck // reads tell
	c := textproto.NewConn(conn)
	mail := "MAIL FROM:<" + e.mail + ">"
	if e.utf8 {
		mail += " SMTPUTF8"
	}
	lines := []string{"EHLO client.test", mail, "RCPT TO:<" + e.rcpt + ">"}
	if e.user != "" {
		lines = append([]string{lines[0], "XCLIENT LOGIN=" + e.user}, lines...)
	}
	reply := read(t, c)
	for _, line := range lines {
		if err := c.PrintfLine("%s", line); err != nil {
			t.Fatal(err)
		}
		if reply = read(t, c); reply[0] != '2' {
			break
		}
	}
	return reply
}

func read(t *testing.T, c *textproto.Conn) string {
	t.Helper()
	code, text, err := c.ReadResponse(0)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(code, " ", text)
}

// greetSASL gives smtpds with SASL the greeting of a Dovecot auth server
// (without one they do not start), until the test ends. Nobody signs in there.
func greetSASL(t *testing.T, path string) {
	t.Helper()
	l, err := listen.Open("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			const greeting = "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\t0123456789abcdef0123456789abcdef\nDONE\n"
			io.WriteString(c, greeting) //nolint:errcheck // the smtpd tells
		}
	}()
}

// primary is a mail server that knows certain recipients.
type primary struct{ knows []string }

func (p *primary) NewSession(*smtp.Conn) (smtp.Session, error) { return p, nil }
func (p *primary) Mail(string, *smtp.MailOptions) error        { return nil }
func (p *primary) Data(r io.Reader) error                      { _, err := io.Copy(io.Discard, r); return err }
func (p *primary) Reset()                                      {}
func (p *primary) Logout() error                               { return nil }

func (p *primary) Rcpt(to string, _ *smtp.RcptOptions) error {
	if local, _, _ := strings.Cut(to, "@"); !strings.Contains(strings.Join(p.knows, " ")+" ", local+" ") {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user here"}
	}
	return nil
}

// startPrimary runs a primary until the test ends and returns its host:port.
func startPrimary(t *testing.T, knows ...string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := smtp.NewServer(&primary{knows})
	s.Domain = "mail.example.test"
	go s.Serve(l) //nolint:errcheck // ends with Close
	t.Cleanup(func() { s.Close() })
	return l.Addr().String()
}
