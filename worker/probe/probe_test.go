package probe

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"understudy/internal/freeport"
	"understudy/worker/detect"
)

// server accepts connections and runs script with each.
func server(t *testing.T, script func(c net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(2 * time.Minute)) //nolint:errcheck
				script(c)
			})
		}
	})
	return l.Addr().String()
}

// smtp answers the banner and then each command by its first word.
func smtp(banner string, replies map[string]string) func(c net.Conn) {
	return func(c net.Conn) {
		fmt.Fprintf(c, "%s\r\n", banner)
		lines := bufio.NewScanner(c)
		for lines.Scan() {
			verb, _, _ := strings.Cut(lines.Text(), " ")
			reply, ok := replies[lines.Text()]
			if !ok {
				if reply, ok = replies[verb]; !ok {
					reply = "250 ok"
				}
			}
			switch reply {
			case "HANG":
				io.Copy(io.Discard, c) //nolint:errcheck
				return
			case "CLOSE":
				return
			}
			fmt.Fprintf(c, "%s\r\n", reply)
		}
	}
}

func TestProbe(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		script func(c net.Conn)
		class  detect.Class
		detail string // part of it
	}{
		{"healthy", smtp("220 mx.test ESMTP", nil), detect.Healthy, ""},
		{"many lines", smtp("220-mx.test\r\n220 ESMTP", map[string]string{"EHLO": "250-mx.test\r\n250-SIZE 1000\r\n250 8BITMIME"}), detect.Healthy, ""},
		{"knows HELO only", smtp("220 old", map[string]string{"EHLO": "502 what"}), detect.Healthy, ""},
		{"refuses null sender against the RFC", smtp("220 x", map[string]string{"MAIL FROM:<>": "550 no null sender"}), detect.Healthy, ""},
		{"banner 421", smtp("421 too busy", nil), detect.ServerTempfail, "banner: 421 too busy"},
		{"banner 554", smtp("554 no service", nil), detect.ServerReject, "banner: 554 no service"},
		{"EHLO 421", smtp("220 x", map[string]string{"EHLO": "421 later"}), detect.ServerTempfail, "EHLO: 421 later"},
		{"EHLO 550", smtp("220 x", map[string]string{"EHLO": "550 blocked"}), detect.ServerReject, "EHLO: 550 blocked"},
		{"MAIL 451", smtp("220 x", map[string]string{"MAIL": "451 4.3.0 disk full"}), detect.ServerTempfail, "MAIL: 451 4.3.0 disk full"},
		{"MAIL 554", smtp("220 x", map[string]string{"MAIL": "554 never"}), detect.ServerReject, "MAIL: 554 never"},
		{"hangs at EHLO", smtp("220 x", map[string]string{"EHLO": "HANG"}), detect.Timeout, "EHLO: no answer within"},
		{"hangs at MAIL", smtp("220 x", map[string]string{"MAIL": "HANG"}), detect.Timeout, "MAIL: no answer within"},
		{"no banner", func(c net.Conn) { io.Copy(io.Discard, c) }, detect.Timeout, "banner: no answer within"}, //nolint:errcheck
		{"closes at once", func(net.Conn) {}, detect.Unreachable, "banner: "},
		{"closes at EHLO", smtp("220 x", map[string]string{"EHLO": "CLOSE"}), detect.Unreachable, "EHLO: "},
		{"another protocol", func(c net.Conn) { io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n") }, detect.ServerReject, "no SMTP reply"}, //nolint:errcheck
		{"endless banner", func(c net.Conn) {
			for {
				if _, err := c.Write([]byte("220-" + strings.Repeat("x", 1000) + "\r\n")); err != nil {
					return
				}
			}
		}, detect.Unreachable, "banner: "},
		{"one byte at a time", func(c net.Conn) {
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for range tick.C {
				if _, err := c.Write([]byte("2")); err != nil {
					return
				}
			}
		}, detect.Timeout, "banner: no answer within"},
		{"unprintable", smtp("421 a\x1b[31m\x00\xff"+strings.Repeat("long ", 100), nil), detect.ServerTempfail, "banner: 421 a [31m"},
		{"STARTTLS refused for now", smtp("220 x", map[string]string{"EHLO": "250-x\r\n250 STARTTLS", "STARTTLS": "454 later"}), detect.Healthy, ""},
		{"garbage after STARTTLS", smtp("220 x", map[string]string{"EHLO": "250-x\r\n250 STARTTLS", "STARTTLS": "220 go\r\ngarbage garbage garbage"}), detect.TLS, "TLS handshake: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			address := server(t, c.script)
			p := &Prober{Helo: "gw.test", Timeout: 15 * time.Second}
			if c.class == detect.Timeout {
				p.Timeout = time.Second
			}
			begin := time.Now()
			got := p.Probe(t.Context(), address)
			if got.Class != c.class || !strings.Contains(got.Detail, c.detail) || got.Host != address {
				t.Errorf("%+v, want %s %q", got, c.class, c.detail)
			}
			if len(got.Detail) > maxDetail || strings.ContainsAny(got.Detail, "\x00\x1b\r\n") {
				t.Errorf("detail %q", got.Detail)
			}
			if took := time.Since(begin); took > time.Minute {
				t.Errorf("took %v", took)
			}
		})
	}
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	address := freeport.For(t)
	p := &Prober{Helo: "gw.test", Timeout: 15 * time.Second}
	if got := p.Probe(t.Context(), address); got.Class != detect.Unreachable || got.Detail != "connect: connection refused" {
		t.Errorf("%+v", got)
	}
	if got := p.Probe(t.Context(), "no-such-host.invalid:25"); got.Class != detect.Unreachable || !strings.HasPrefix(got.Detail, "name lookup: ") {
		t.Errorf("%+v", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := p.Probe(ctx, address); got.Class == detect.Healthy {
		t.Errorf("%+v", got)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	cert := certificate(t)
	for name, c := range map[string]struct {
		cfg    *tls.Config
		inside map[string]string
		class  detect.Class
		detail string
	}{
		"good":              {&tls.Config{}, nil, detect.Healthy, ""},
		"old":               {&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}, nil, detect.Healthy, ""},
		"refused inside":    {&tls.Config{}, map[string]string{"MAIL": "451 later"}, detect.ServerTempfail, "MAIL: 451"},
		"no common ciphers": {&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{0xffff}}, nil, detect.Healthy, "TLS not probed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.cfg.Certificates = []tls.Certificate{cert}
			address := server(t, func(conn net.Conn) {
				fmt.Fprint(conn, "220 x\r\n")
				lines := bufio.NewScanner(conn)
				for lines.Scan() {
					switch verb, _, _ := strings.Cut(lines.Text(), " "); verb {
					case "EHLO":
						fmt.Fprint(conn, "250-x\r\n250-STARTTLS\r\n250 SIZE\r\n")
					case "STARTTLS":
						fmt.Fprint(conn, "220 go\r\n")
						inside := tls.Server(conn, c.cfg)
						if inside.Handshake() == nil {
							answer(inside, c.inside)
						}
						return
					default:
						fmt.Fprint(conn, "250 ok\r\n")
					}
				}
			})
			got := (&Prober{Helo: "gw.test", Timeout: 15 * time.Second}).Probe(t.Context(), address)
			if got.Class != c.class || !strings.Contains(got.Detail, c.detail) {
				t.Errorf("%+v, want %s %q", got, c.class, c.detail)
			}
		})
	}
}

func answer(c net.Conn, replies map[string]string) {
	lines := bufio.NewScanner(c)
	for lines.Scan() {
		verb, _, _ := strings.Cut(lines.Text(), " ")
		reply, ok := replies[verb]
		if !ok {
			reply = "250 ok"
		}
		fmt.Fprintf(c, "%s\r\n", reply)
	}
}

func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestPostfix probes the real smtpd in its stand-alone mode (smtpd(8), -S),
// which needs no running Postfix.
func TestPostfix(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "probe-postfix-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(nobody.Uid)
	gid, _ := strconv.Atoi(nobody.Gid)
	for _, sub := range []string{"queue", "queue/maildrop", "queue/pid", "data"} {
		if err := errors.Join(os.Mkdir(filepath.Join(dir, sub), 0o755), os.Chmod(filepath.Join(dir, sub), 0o777)); err != nil {
			t.Fatal(err)
		}
	}
	main := fmt.Sprintf("queue_directory = %s/queue\ndata_directory = %s/data\nmaillog_file = %s/data/log\nmaillog_file_prefixes = %s\nmyhostname = mx.test\nmydestination =\ncompatibility_level = 3.6\nsmtpd_relay_restrictions = reject\n", dir, dir, dir, dir)
	for name, text := range map[string]string{"main.cf": main, "master.cf": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	address := server(t, func(c net.Conn) {
		cmd := exec.Command("/usr/lib/postfix/sbin/smtpd", "-S")
		cmd.Env = append(os.Environ(), "MAIL_CONFIG="+dir)
		if os.Geteuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		}
		var stderr strings.Builder
		cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Dir = c, c, &stderr, dir // pipes: with a socket it wants to be a server
		if err := cmd.Run(); err != nil {
			t.Errorf("smtpd: %v: %s", err, stderr.String())
		}
	})
	got := (&Prober{Helo: "gw.test", Timeout: 15 * time.Second}).Probe(t.Context(), address)
	if got.Class != detect.Healthy || got.Detail != "" {
		t.Errorf("%+v", got)
	}
}
