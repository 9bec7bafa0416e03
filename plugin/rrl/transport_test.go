package rrl_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/resolverd/resolverd/corefile"
	"github.com/resolverd/resolverd/internal/testnet"
)

// certificate writes the certificate of net/http's tests, for 127.0.0.1, and its key, and
// returns who trusts it.
func certificate(t *testing.T) (cert, key string, trust *x509.CertPool) {
	t.Helper()
	srv := httptest.NewTLSServer(nil)
	defer srv.Close()
	pair := srv.TLS.Certificates[0]
	private, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, key: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	trust = x509.NewCertPool()
	trust.AddCert(srv.Certificate())
	return cert, key, trust
}

// TestTransports asks more than the rate over every transport. Over UDP it is refused,
// over the others it is not; and a malformed cookie is FORMERR on all of them.
func TestTransports(t *testing.T) {
	cert, key, trust := certificate(t)
	udp, dot, doh, doh3, doq := testnet.Port(t), testnet.Port(t), testnet.Port(t), testnet.Port(t), testnet.Port(t)
	var text string
	for _, k := range []string{"dns://.:" + udp, "tls://.:" + dot, "https://.:" + doh, "https3://.:" + doh3, "quic://.:" + doq} {
		text += fmt.Sprintf("%s {\nbind 127.0.0.1\ntls %s %s\nrrl {\nresponses 1\nburst 0s\nslip 0\nloopback\n}\ntemplate IN A {\nanswer \"{{ .Name }} 60 IN A 192.0.2.7\"\n}\n}\n", k, cert, key)
	}
	file := filepath.Join(t.TempDir(), "Corefile")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := corefile.Start(corefile.Config{Source: corefile.Source{File: file}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})

	conf := &tls.Config{RootCAs: trust, MinVersion: tls.VersionTLS13}
	h2 := &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: true}
	defer h2.CloseIdleConnections()
	h3 := &http3.Transport{TLSClientConfig: conf}
	defer h3.Close()
	q := conf.Clone()
	q.NextProtos = []string{"doq"}
	streams, err := quic.DialAddr(t.Context(), "127.0.0.1:"+doq, q, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer streams.CloseWithError(0, "")

	plain := func(network, port string) func(*dns.Msg) (*dns.Msg, error) {
		return func(m *dns.Msg) (*dns.Msg, error) {
			c := dns.Client{Net: network, Timeout: 500 * time.Millisecond, TLSConfig: conf}
			r, _, err := c.Exchange(m, "127.0.0.1:"+port)
			return r, err
		}
	}
	for name, tc := range map[string]struct {
		ask     func(*dns.Msg) (*dns.Msg, error)
		limited bool
	}{
		"UDP":  {plain("udp", udp), true},
		"TCP":  {plain("tcp", udp), false},
		"DoT":  {plain("tcp-tls", dot), false},
		"DoH":  {post(&http.Client{Transport: h2}, doh), false},
		"DoH3": {post(&http.Client{Transport: h3}, doh3), false},
		"DoQ":  {func(m *dns.Msg) (*dns.Msg, error) { return overQUIC(streams, m) }, false},
	} {
		answered := 0
		for range 5 {
			if r, err := tc.ask(query("a.test.")); err == nil && len(r.Answer) == 1 {
				answered++
			} else if !tc.limited {
				t.Errorf("%s: %v, %v", name, r, err)
			}
			if tc.limited && answered > 0 {
				break
			}
		}
		if tc.limited {
			if r, err := tc.ask(query("a.test.")); err == nil {
				t.Errorf("%s is not limited: %v", name, r)
			}
		}
		m := query("a.test.").SetEdns0(1232, false)
		m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "abab"}}
		if r, err := tc.ask(m); err != nil || r.Rcode != dns.RcodeFormatError {
			t.Errorf("%s, a malformed cookie: %v, %v", name, r, err)
		}
	}
}

// post returns who asks over HTTPS (RFC 8484).
func post(c *http.Client, port string) func(*dns.Msg) (*dns.Msg, error) {
	return func(m *dns.Msg) (*dns.Msg, error) {
		p, err := m.Pack()
		if err != nil {
			return nil, err
		}
		resp, err := c.Post("https://127.0.0.1:"+port+"/dns-query", "application/dns-message", bytes.NewReader(p))
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		return unpack(io.ReadAll(resp.Body))
	}
}

// overQUIC asks on a stream of its own (RFC 9250).
func overQUIC(c *quic.Conn, m *dns.Msg) (*dns.Msg, error) {
	s, err := c.OpenStream()
	if err != nil {
		return nil, err
	}
	m.Id = 0
	p, err := m.Pack()
	if err != nil {
		return nil, err
	}
	if _, err := s.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(p))), p...)); err != nil {
		return nil, err
	}
	s.Close()
	b, err := io.ReadAll(s)
	if len(b) < 2 {
		return nil, fmt.Errorf("%d octets, %w", len(b), err)
	}
	return unpack(b[2:], err)
}

func unpack(p []byte, err error) (*dns.Msg, error) {
	if err != nil {
		return nil, err
	}
	m := new(dns.Msg)
	return m, m.Unpack(p)
}
