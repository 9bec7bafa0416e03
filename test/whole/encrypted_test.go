package whole

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestEncryptedTransports asks over DoT and DoH with kdig, and forwards over DoT to
// ourselves: the chain of a host that trusts only its own certificate.
func TestEncryptedTransports(t *testing.T) {
	dir := shortDir(t)
	cert, key := certificate(t, dir)
	p := start(t, strings.NewReplacer("CERT", cert, "KEY", key).Replace(`
tls://.:5853 https://.:5443 {
    bind 127.0.0.1
    tls CERT KEY
    errors
    registry internal.
}
.:5300 {
    bind 127.0.0.1
    errors
    forward internal. tls://127.0.0.1:5853 {
        tls CERT KEY CERT
        tls_servername resolverd.test
    }
}
`))
	p.register(t, nil)
	for name, args := range map[string][]string{
		"DoT":                     {"+tls-ca=" + cert, "+tls-hostname=resolverd.test", "-p", "5853"},
		"DoH":                     {"+https", "+tls-ca=" + cert, "+tls-hostname=resolverd.test", "-p", "5443"},
		"UDP, forwarded over DoT": {"-p", "5300"},
	} {
		eventually(t, 10*time.Second, name, func() error {
			out, err := run(t.Context(), peer(t, "kdig"), append([]string{"@127.0.0.1", "+short", "web.service.internal", "A"}, args...)...)
			if err == nil && strings.TrimSpace(out) != "10.0.0.1" {
				err = fmt.Errorf("kdig printed %q", out)
			}
			return err
		})
	}
}

// certificate writes a certificate that signs itself, for resolverd.test, and its key.
func certificate(t testing.TB, dir string) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "resolverd.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"resolverd.test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	return write(t, filepath.Join(dir, "cert.pem"), encode("CERTIFICATE", der)),
		write(t, filepath.Join(dir, "key.pem"), encode("PRIVATE KEY", private))
}
