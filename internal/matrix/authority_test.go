package matrix

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The primaries' certificates, each for primary.test: one of a CA that the
// gateway trusts, and one that nobody vouches for.
var trusted, stranger tls.Certificate

// newAuthority makes both certificates and returns the file with the CA's.
func newAuthority(t *testing.T) (file string) {
	t.Helper()
	ca, caKey := issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "the test's CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign}, nil, nil)
	leaf := &x509.Certificate{Subject: pkix.Name{CommonName: "primary.test"}, DNSNames: []string{"primary.test"},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	good, goodKey := issue(t, leaf, ca, caKey)
	bad, badKey := issue(t, leaf, nil, nil)
	trusted = tls.Certificate{Certificate: [][]byte{good.Raw}, PrivateKey: goodKey}
	stranger = tls.Certificate{Certificate: [][]byte{bad.Raw}, PrivateKey: badKey}
	dir, err := os.MkdirTemp("", "us-ca-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	file = filepath.Join(dir, "ca.pem")
	if err := os.Chmod(dir, 0o755); err != nil { // Postfix's user reads it
		t.Fatal(err)
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw}), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// issue signs a certificate, by itself when there is no parent.
func issue(t *testing.T, template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := *template
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if c.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62)); err != nil {
		t.Fatal(err)
	}
	if parent == nil {
		parent, parentKey = &c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, &c, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return out, key
}
