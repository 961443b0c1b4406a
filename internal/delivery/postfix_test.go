package delivery_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"understudy/internal/delivery"
	"understudy/internal/delivery/postfixtest"
)

// content is what was sent of a message in a maildir: without the trace
// fields that Postfix puts on top and with CRLF line ends (a maildir has LF).
func content(t *testing.T, stored string) string {
	t.Helper()
	_, below, ok := strings.Cut(stored, "\nX-Test: ")
	if !ok {
		t.Fatalf("no X-Test field in %q", stored)
	}
	return strings.ReplaceAll("X-Test: "+below, "\n", "\r\n")
}

func deliver(t *testing.T, c *delivery.Client, host, message string, recipients ...string) []delivery.Result {
	t.Helper()
	return c.Deliver(t.Context(), []string{host}, delivery.Message{Sender: "sender@internet.test", Recipients: recipients,
		Body: strings.NewReader(message), Size: int64(len(message))})
}

// TestBytesArriveUnchanged states what a real receiver gets, and what SMTP or
// the receiver change.
func TestBytesArriveUnchanged(t *testing.T) {
	t.Parallel()
	primary := postfixtest.Start(t, postfixtest.Options{})
	const head = "X-Test: 1\r\nSubject:  two  spaces \r\n\tfolded\r\n\r\n"
	tests := []struct{ to, name, body, want string }{ // want "": the same
		{"a", "plain", "hello\r\n", ""},
		{"b", "8 bit", "caf\xe9 caf\u00e9 \xff\xfe\r\n", ""},
		{"c", "dots", ".\r\n..\r\n.dot\r\nend.\r\n", ""},
		{"d", "blank lines at the end", "x\r\n\r\n\r\n", ""},
		{"e", "white space at line ends", "x \t\r\n \r\n", ""},
		{"f", "long line", strings.Repeat("0123456789", 200) + "\r\n", ""},
		{"g", "NUL", "a\x00b\r\n", ""},
		{"h", "control characters", "a\x01\x7f\x1b\r\n", ""},
		{"j", "From at line start", "From me\r\n>From you\r\n", ""},
		{"k", "empty body", "", ""},
		// What SMTP cannot carry:
		{"l", "bare LF", "a\nb\r\n", "a\r\nb\r\n"},
		{"m", "no end of the last line", "a", "a\r\n"},
		// What Postfix makes of it (smtpd strips all CR before a LF, cleanup replaces others):
		{"i", "CR within a line", "a\rb\r\n", "a b\r\n"},
		{"n", "CR before CRLF", "a\r\r\nb\r\n", "a\r\nb\r\n"},
	}
	client := &delivery.Client{Helo: "worker.test"}
	for _, tt := range tests {
		r := deliver(t, client, primary.SMTP, head+tt.body, tt.to+"@example.test")
		if len(r) != 1 || r[0].Err != nil || !strings.HasPrefix(r[0].Reply, "250 2.0.0 Ok: queued as ") {
			t.Errorf("%s: %+v", tt.name, r)
		}
	}
	for _, tt := range tests {
		want := tt.want
		if want == "" {
			want = tt.body
		}
		stored := primary.Await(tt.to+"@example.test", 1)
		if diff := cmp.Diff(head+want, content(t, stored[0])); diff != "" {
			t.Errorf("%s: -sent +stored\n%s", tt.name, diff)
		}
	}
}

func TestRecipientsDiffer(t *testing.T) {
	t.Parallel()
	primary := postfixtest.Start(t, postfixtest.Options{})
	primary.Refuse("later@example.test", "451 4.7.1 greylisted")
	r := deliver(t, &delivery.Client{}, primary.SMTP, "X-Test: 1\r\n\r\n", "ana@example.test", "no.such.user@example.test", "later@example.test", "bruno@example.test")
	if len(r) != 4 || r[0].Err != nil || r[3].Err != nil {
		t.Fatalf("got %+v", r)
	}
	if e := r[1].Err; e == nil || e.Temporary || e.Code != 550 || e.Enhanced != "5.1.1" || e.Stage != delivery.StageRcpt || e.ServerWide() {
		t.Errorf("unknown user: %+v", e)
	}
	if e := r[2].Err; e == nil || !e.Temporary || e.Code != 451 || e.Enhanced != "4.7.1" || e.ServerWide() || !strings.Contains(e.Text, "greylisted") {
		t.Errorf("greylisted: %+v", e)
	}
	primary.Await("ana@example.test", 1)
	primary.Await("bruno@example.test", 1)
	// Only refused ones: nothing is sent.
	if r := deliver(t, &delivery.Client{}, primary.SMTP, "X-Test: 1\r\n\r\n", "no.such.user@example.test"); r[0].Err == nil {
		t.Error("an unknown user was accepted")
	}
}

func TestOpportunisticTLS(t *testing.T) {
	t.Parallel()
	pair, pool := certificate(t)
	primary := postfixtest.Start(t, postfixtest.Options{Main: `
smtpd_tls_security_level = encrypt
smtpd_tls_chain_files = @DIR@/tls.pem
smtpd_tls_received_header = yes
`})
	primary.Write("tls.pem", pair)
	r := deliver(t, &delivery.Client{}, primary.SMTP, "X-Test: 1\r\n\r\n", "ana@example.test")
	if r[0].Err != nil {
		t.Fatal(r[0].Err)
	}
	if got := primary.Await("ana@example.test", 1)[0]; !strings.Contains(got, "using TLS") {
		t.Errorf("sent without TLS: %s", got)
	}
	strict := &delivery.Client{TLS: pool, RequireTLS: true}
	if r := deliver(t, strict, primary.SMTP, "X-Test: 1\r\n\r\n", "ana@example.test"); r[0].Err != nil {
		t.Errorf("with a certificate that is right: %v", r[0].Err)
	}
	other := &delivery.Client{TLS: pool.Clone(), RequireTLS: true}
	other.TLS.ServerName = "other.test"
	if r := deliver(t, other, primary.SMTP, "X-Test: 1\r\n\r\n", "ana@example.test"); r[0].Err == nil || r[0].Err.Stage != delivery.StageTLS || !r[0].Err.Temporary {
		t.Errorf("with a certificate of another: %+v", r[0].Err)
	}
}

func TestLargeMessageAndSize(t *testing.T) {
	t.Parallel()
	primary := postfixtest.Start(t, postfixtest.Options{Main: "message_size_limit = 1000000\n"})
	big := "X-Test: 1\r\n\r\n" + strings.Repeat(strings.Repeat("x", 76)+"\r\n", 20000)
	r := deliver(t, &delivery.Client{}, primary.SMTP, big, "ana@example.test")
	if e := r[0].Err; e == nil || e.Temporary || e.Code != 552 || e.Stage != delivery.StageMail {
		t.Errorf("announced too large: %+v", e)
	}
	r = (&delivery.Client{}).Deliver(t.Context(), []string{primary.SMTP}, delivery.Message{Recipients: []string{"ana@example.test"}, Body: strings.NewReader(big)})
	if e := r[0].Err; e == nil || e.Temporary || e.Code != 552 || e.Stage != delivery.StageDone || e.Unknown {
		t.Errorf("sent too large: %+v", e)
	}
	if files, _ := filepath.Glob(primary.Dir + "/mail/example.test/*/new/*"); len(files) != 0 {
		t.Errorf("arrived: %v", files)
	}
}

// certificate makes a key pair for 127.0.0.1 in one PEM file and a
// configuration that trusts it.
func certificate(t *testing.T) (string, *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(public)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})) + string(public), &tls.Config{RootCAs: pool}
}
