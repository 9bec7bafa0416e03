package forward

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	engine "github.com/resolverd/resolverd/forward"
)

// stanzaOf parses one directive with one property, or returns the error.
func stanzaOf(corefile string) (*stanza, error) {
	all, err := parse(caddy.NewTestController("dns", corefile))
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

func TestParseProperties(t *testing.T) {
	tests := []struct {
		property string
		check    func(s *stanza) any
		want     any
	}{
		{"", func(s *stanza) any { return s.options.Policy }, engine.Random},
		{"", func(s *stanza) any { return s.options.MaxFails }, uint32(2)},
		{"", func(s *stanza) any { return s.options.Expire }, 10 * time.Second},
		{"", func(s *stanza) any { return s.options.ReadTimeout }, 2 * time.Second},
		{"", func(s *stanza) any { return s.options.ProbeInterval }, 500 * time.Millisecond},
		{"", func(s *stanza) any { return s.options.Failover }, []int{dns.RcodeServerFailure, dns.RcodeRefused}},
		{"", func(s *stanza) any { return s.options.MaxAttempts }, 0},
		{"except example.org Sub.Example.net. 10.9.8.0/24", func(s *stanza) any { return s.except }, []string{"example.org.", "sub.example.net.", "8.9.10.in-addr.arpa."}},
		{"force_tcp", func(s *stanza) any { return s.options.ForceTCP }, true},
		{"prefer_udp", func(s *stanza) any { return s.options.PreferUDP }, true},
		{"expire 30s", func(s *stanza) any { return s.options.Expire }, 30 * time.Second},
		{"expire 0s", func(s *stanza) any { return s.options.Expire }, time.Duration(0)},
		{"max_age 30s", func(s *stanza) any { return s.options.MaxAge }, 30 * time.Second},
		{"max_age 10s", func(s *stanza) any { return s.options.MaxAge }, 10 * time.Second},
		{"max_age 0s", func(s *stanza) any { return s.options.MaxAge }, time.Duration(0)},
		{"max_idle_conns 10", func(s *stanza) any { return s.options.MaxIdle }, 10},
		{"max_idle_conns 0", func(s *stanza) any { return s.options.MaxIdle }, 0},
		{"read_timeout 500ms", func(s *stanza) any { return s.options.ReadTimeout }, 500 * time.Millisecond},
		{"max_fails 3", func(s *stanza) any { return s.options.MaxFails }, uint32(3)},
		{"max_fails 0", func(s *stanza) any { return s.options.MaxFails }, uint32(0)},
		{"max_connect_attempts 5", func(s *stanza) any { return s.options.MaxAttempts }, 5},
		{"max_connect_attempts 0", func(s *stanza) any { return s.options.MaxAttempts }, -1},
		{"doh_method GET", func(s *stanza) any { return s.options.DoHMethod }, "GET"},
		{"policy random", func(s *stanza) any { return s.options.Policy }, engine.Random},
		{"policy round_robin", func(s *stanza) any { return s.options.Policy }, engine.RoundRobin},
		{"policy sequential", func(s *stanza) any { return s.options.Policy }, engine.Sequential},
		{"health_check 2s", func(s *stanza) any { return s.options.ProbeInterval }, 2 * time.Second},
		{"health_check 0s", func(s *stanza) any { return s.options.ProbeInterval }, minProbe},
		{"health_check 0.5s no_rec", func(s *stanza) any { return s.options.ProbeNoRecursion }, true},
		{"health_check 0.5s domain Example.org", func(s *stanza) any { return s.options.ProbeName }, "example.org."},
		{"health_check 0.5s no_rec domain .", func(s *stanza) any { return s.options.ProbeName }, "."},
		{"max_concurrent 1000", func(s *stanza) any { return s.maxConcurrent }, int64(1000)},
		{"max_concurrent 0", func(s *stanza) any { return s.maxConcurrent }, int64(0)},
		{"next NXDOMAIN servfail", func(s *stanza) any { return s.next }, []int{dns.RcodeNameError, dns.RcodeServerFailure}},
		{"next NXDOMAIN\nnext REFUSED", func(s *stanza) any { return s.next }, []int{dns.RcodeNameError, dns.RcodeRefused}},
		{"next_on_nodata", func(s *stanza) any { return s.nextOnNodata }, true},
		{"failfast_all_unhealthy_upstreams", func(s *stanza) any { return s.options.FailFast }, true},
		{"failover NXDOMAIN", func(s *stanza) any { return s.options.Failover }, []int{dns.RcodeNameError}},
		{"failover ServFail Refused", func(s *stanza) any { return s.options.Failover }, []int{dns.RcodeServerFailure, dns.RcodeRefused}},
		{"failover none", func(s *stanza) any { return s.options.Failover }, []int(nil)},
		{"source_address 192.0.2.1", func(s *stanza) any { return s.options.SourceAddr.String() }, "192.0.2.1"},
		{"source_address ::ffff:192.0.2.1", func(s *stanza) any { return s.options.SourceAddr.String() }, "192.0.2.1"},
		{"source_address 2001:db8::1", func(s *stanza) any { return s.options.SourceAddr.String() }, "2001:db8::1"},
		{"resolver 192.0.2.1 192.0.2.2:5353 [2001:db8::1]:53 2001:db8::2", func(s *stanza) any { return len(s.resolver) }, 4},
		{"tls", func(s *stanza) any { return s.options.TLS != nil }, true},
		{"policy fastest", func(s *stanza) any { return s.options.Policy }, engine.Fastest},
		{"", func(s *stanza) any { return s.options.Hedge }, 0.0},
		{"mix_case", func(s *stanza) any { return s.options.MixCase }, true},
		{"hedge", func(s *stanza) any { return s.options.Hedge }, 0.05},
		{"hedge 2.5%", func(s *stanza) any { return s.options.Hedge }, 0.025},
		{"backup 192.0.2.1 tls://192.0.2.2", func(s *stanza) any {
			src := s.options.Sources
			return []bool{src[0].Backup, src[1].Backup, src[2].Backup}
		}, []bool{false, true, true}},
		{"chain ServFail refused", func(s *stanza) any { return s.links[0].codes }, []int{dns.RcodeServerFailure, dns.RcodeRefused}},
		{"chain NXDOMAIN NODATA Example.org 10.0.0.0/8", func(s *stanza) any { return s.links[0].zones }, []string{"example.org.", "10.in-addr.arpa."}},
		{"tls_servername dns.example", func(s *stanza) any { return s.serverName }, "dns.example"},
	}
	for _, tt := range tests {
		name := tt.property
		if name == "" {
			name = "default"
		}
		t.Run(name, func(t *testing.T) {
			s, err := stanzaOf("forward . 127.0.0.1 {\n" + tt.property + "\n}\n")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, tt.check(s)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	const block = "forward . 127.0.0.1 {\n%\n}\n"
	const args = "Wrong argument count"
	tests := []struct{ corefile, err string }{
		{"forward", args},
		{"forward . 127.0.0.1 {\nhedge 0\n}\n", "hedge: not a percentage above 0: 0"},
		{"forward . 127.0.0.1 {\nhedge NaN\n}\n", "hedge: not a percentage above 0: NaN"},
		{"forward . 127.0.0.1 {\nhedge 5 5\n}\n", args},
		{"forward . 127.0.0.1 {\nbackup\n}\n", args},
		{"forward . 127.0.0.1 {\nbackup 127.0.0.1\n}\n", "backup: 127.0.0.1:53 is an upstream already"},
		{"forward . 127.0.0.1 {\nchain\n}\n", args},
		{"forward . 127.0.0.1 {\nchain example.org\n}\n", args},
		{"forward . 127.0.0.1 {\nchain NXDOMAIN\n}\n", "chain: NXDOMAIN and NODATA need the zones"},
		{"forward . 127.0.0.1 {\nchain NOERROR example.org\n}\n", "NoError cannot be used in chain"},
		{"forward .", args},
		{"forward " + strings.Repeat("x", 64) + " 127.0.0.1", "unable to normalize"},
		{"forward . 127.0.0.1 127.0.0.2 127.0.0.3 127.0.0.4 127.0.0.5 127.0.0.6 127.0.0.7 127.0.0.8 127.0.0.9 127.0.0.10 127.0.0.11 127.0.0.12 127.0.0.13 127.0.0.14 127.0.0.15 127.0.0.16", "more than 15 TOs configured: 16"},
		{"forward . https://192.0.2.1/", "paths are not allowed in HTTPS upstream addresses"},
		{"forward . https://dns.example/dns-query", "paths are not allowed in HTTPS upstream addresses"},
		{"forward . grpc://127.0.0.1", "'grpc' is not supported as a destination protocol in forward"},
		{"forward . unix:///run/dns.sock", "'unix' is not supported"},
		{"forward . ftp://127.0.0.1", "not an IP address, file, or valid domain"},
		{"forward . tls:///etc/resolv.conf", "not an IP address, file, or valid domain"},
		{"forward . tls://", "invalid address"},
		{"forward . 127.0.0.1:0", "invalid port"},
		{"forward . 127.0.0.1:dns", "invalid port"},
		{"forward . 127.0.0.1:70000", "invalid port"},
		{"forward . [::1", "missing ']'"},
		{"forward . [::1]x", "unexpected text after ']'"},
		{"forward . /etc", "is a directory"},
		{"forward . a..b", "not an IP address, file, or valid domain"},
		{"forward . tls://127.0.0.1%a.example {\ntls_servername b.example\n}", "both forward ('b.example') and proxy level ('a.example') TLS servernames are set"},
		{"forward . quic://127.0.0.1%a.example {\ntls_servername b.example\n}", "both forward"},
		{"blaatl", "unknown property 'blaatl'"},
		{"except", args},
		{"force_tcp yes", args},
		{"prefer_udp yes", args},
		{"next_on_nodata yes", args},
		{"failfast_all_unhealthy_upstreams false", args},
		{"expire", args},
		{"expire 10", "missing unit"},
		{"expire -1s", "expire can't be negative"},
		{"expire 1s 2s", args},
		{"expire 30s\nmax_age 10s", "max_age (10s) must not be less than expire (30s)"},
		{"max_age 10s\nexpire 30s", "max_age (10s) must not be less than expire (30s)"},
		{"max_age -1s", "max_age can't be negative"},
		{"max_age x", "invalid duration"},
		{"max_idle_conns many", "invalid"},
		{"max_idle_conns -1", "negative"},
		{"read_timeout", args},
		{"read_timeout 0s", "read_timeout must be positive"},
		{"read_timeout -1s", "read_timeout must be positive"},
		{"read_timeout x", "invalid duration"},
		{"max_fails", args},
		{"max_fails many", "invalid"},
		{"max_fails 4294967296", "invalid"},
		{"max_connect_attempts many", "invalid"},
		{"max_connect_attempts -4", "invalid"},
		{"doh_method PUT", "doh_method must be either POST or GET"},
		{"doh_method", args},
		{"policy", args},
		{"policy slowest", "unknown policy 'slowest'"},
		{"health_check", args},
		{"health_check no_rec", "invalid duration"},
		{"health_check -1s", "health_check can't be negative"},
		{"health_check 0.5s rec", "health_check: unknown option rec"},
		{"health_check 0.5s domain", args},
		{"health_check 0.5s domain example..org", "health_check: invalid domain name example..org"},
		{"max_concurrent", args},
		{"max_concurrent many", "invalid"},
		{"max_concurrent -4", "negative"},
		{"next", args},
		{"next INVALID", "INVALID is not a valid rcode"},
		{"next NXDOMAIN INVALID", "INVALID is not a valid rcode"},
		{"failover", args},
		{"failover NOERROR", "NoError cannot be used in failover"},
		{"failover NOT_A_VALID_RCODE", "not a valid rcode"},
		{"failover none SERVFAIL", "none is not a valid rcode"},
		{"source_address", args},
		{"source_address not-an-ip", "invalid IP address: not-an-ip"},
		{"resolver", args},
		{"resolver dns.example", "resolver must be an IP address or IP:port"},
		{"tls a b c d", args},
		{"tls /nonexistent/ca.pem", "no such file"},
		{"tls_servername", args},
	}
	for _, tt := range tests {
		corefile := tt.corefile
		if !strings.HasPrefix(corefile, "forward") {
			corefile = strings.Replace(block, "%", tt.corefile, 1)
		}
		t.Run(tt.corefile, func(t *testing.T) {
			_, err := stanzaOf(corefile)
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("error %v, want one with %q", err, tt.err)
			}
			if !strings.Contains(err.Error(), "Testfile:") {
				t.Errorf("error %q does not say where", err)
			}
		})
	}
}

func TestParseFrom(t *testing.T) {
	tests := []struct{ from, want string }{
		{".", "."},
		{"Example.ORG", "example.org."},
		{"example.org.", "example.org."},
		{"10.9.8.0/24", "8.9.10.in-addr.arpa."},
		{"10.9.3.0/18", "0.9.10.in-addr.arpa."},
	}
	for _, tt := range tests {
		s, err := stanzaOf("forward " + tt.from + " 127.0.0.1")
		if err != nil {
			t.Errorf("%s: %v", tt.from, err)
			continue
		}
		if s.from != tt.want {
			t.Errorf("%s: %q, want %q", tt.from, s.from, tt.want)
		}
	}
}

func TestParseTargets(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "resolv.conf")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	tests := []struct{ to, want string }{
		{"127.0.0.1", "127.0.0.1:53"},
		{"127.0.0.1:8080", "127.0.0.1:8080"},
		{"dns://127.0.0.1", "127.0.0.1:53"},
		{"dns://127.0.0.1:54", "127.0.0.1:54"},
		{"::1", "[::1]:53"},
		{"[::1]", "[::1]:53"},
		{"[::1]:54", "[::1]:54"},
		{"::ffff:192.0.2.1", "192.0.2.1:53"},
		{"fe80::1%eth0", "[fe80::1%eth0]:53"},
		{"[fe80::1%eth0]:54", "[fe80::1%eth0]:54"},
		{"2001:db8::1%en0", "[2001:db8::1]:53"},
		{"tls://127.0.0.1", "tls://127.0.0.1:853"},
		{"tls://127.0.0.1%dns.example", "tls://127.0.0.1:853%dns.example"},
		{"tls://127.0.0.1%dns.example:854", "tls://127.0.0.1:854%dns.example"},
		{"tls://fe80::1%dns.example", "tls://[fe80::1]:853%dns.example"},
		{"tls://[2400:3200::1%dns.example]:853", "tls://[2400:3200::1]:853%dns.example"},
		{"https://127.0.0.1", "https://127.0.0.1:443"},
		{"https://127.0.0.1%dns.example:8443", "https://127.0.0.1:8443%dns.example"},
		{"quic://127.0.0.1", "quic://127.0.0.1:853"},
		{"quic://[::1%dns.example]:8853", "quic://[::1]:8853%dns.example"},
		{"127.0.0.1 127.0.0.1:53 dns://127.0.0.1", "127.0.0.1:53"},
		{"tls://127.0.0.1 quic://127.0.0.1", "tls://127.0.0.1:853 quic://127.0.0.1:853"},
		{"tls://127.0.0.1%a.example tls://127.0.0.1%b.example", "tls://127.0.0.1:853%a.example tls://127.0.0.1:853%b.example"},
		{"127.0.0.2 127.0.0.1", "127.0.0.2:53 127.0.0.1:53"},
		{file + " 127.0.0.1", "file:" + file + " 127.0.0.1:53"},
		{"/nonexistent/resolv.conf", "file:/nonexistent/resolv.conf"},
		{"dns:///etc/resolv.conf", "file:/etc/resolv.conf"},
		{"resolv.conf", "file:resolv.conf"},
		{"./resolv.conf", "file:./resolv.conf"},
	}
	for _, tt := range tests {
		t.Run(tt.to, func(t *testing.T) {
			sources, err := parseTargets(strings.Fields(tt.to), "", nil, map[string][]netip.Addr{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range sources {
				if s.File != "" {
					got = append(got, "file:"+s.File)
					continue
				}
				got = append(got, s.Endpoint.String())
			}
			if diff := cmp.Diff(tt.want, strings.Join(got, " ")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestHostNamesAreLookedUp(t *testing.T) {
	ns := answering(t, func(r *dns.Msg) *dns.Msg {
		if r.Question[0].Name != "ns.example." {
			return new(dns.Msg).SetRcode(r, dns.RcodeNameError)
		}
		m := new(dns.Msg).SetReply(r)
		if r.Question[0].Qtype == dns.TypeA {
			for _, a := range []byte{2, 1} {
				m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: "ns.example.", Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(192, 0, 2, a)})
			}
		}
		return m
	})
	s, err := stanzaOf("forward . tls://ns.example:8853 {\nresolver " + closedPort(t) + " " + ns + "\ntls_servername dns.example\n}")
	if err != nil {
		t.Fatal(err)
	}
	p, err := engine.Open(s.options)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var got []string
	for _, u := range p.Upstreams() {
		got = append(got, u.Endpoint.String())
	}
	if diff := cmp.Diff([]string{"tls://192.0.2.1:8853%dns.example", "tls://192.0.2.2:8853%dns.example"}, got); diff != "" {
		t.Errorf("upstreams (-want +got):\n%s", diff)
	}
	if len(s.options.Bootstrap) != 2 || s.options.Bootstrap[1].Endpoint.Label() != ns {
		t.Errorf("bootstrap: %v", s.options.Bootstrap)
	}
	if _, err := stanzaOf("forward . nobody.example {\nresolver " + ns + "\n}"); err == nil || !strings.Contains(err.Error(), `failed to resolve "nobody.example"`) {
		t.Errorf("error %v", err)
	}
}

// Whatever is written as TO: no panic, and what is taken is usable.
func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{"127.0.0.1", "tls://[::1%x]:853", "https://a%b:1", "/etc/resolv.conf", "fe80::1%eth0", "[", "]:1", "%", "tls://%:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		tgt, err := parseTarget(text)
		if err != nil {
			return
		}
		if tgt.host == "" {
			t.Fatalf("%q: no host", text)
		}
		a, err := netip.ParseAddr(tgt.host)
		if err != nil {
			return
		}
		o := engine.Default()
		o.Sources = []engine.Source{{Endpoint: tgt.endpoint(a)}}
		if err := o.Validate(); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
	})
}

// writeCert writes a certificate and its key, and returns their paths.
func writeCert(t *testing.T, dir string, serial int64) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	kder, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "EC PRIVATE KEY", Bytes: kder}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// A certificate that was renewed is another pool: the old one would go on with the old.
func TestRenewedCertificateChangesTheKey(t *testing.T) {
	dir := t.TempDir()
	key := func() string {
		cert, k := writeCert(t, dir, time.Now().UnixNano())
		s, err := stanzaOf("forward . tls://127.0.0.1 {\ntls " + cert + " " + k + " " + cert + "\n}")
		if err != nil {
			t.Fatal(err)
		}
		if len(s.options.TLS.Certificates) != 1 || s.options.TLS.RootCAs == nil {
			t.Error("the TLS configuration lacks certificate or authority")
		}
		return s.key()
	}
	first := key()
	if key() == first {
		t.Error("a renewed certificate leaves the key as it was")
	}
}

// Everything that changes how upstreams are asked is in the pool's key, and what does
// not is not.
func TestKey(t *testing.T) {
	base, err := stanzaOf("forward . 127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	differ := []string{
		"force_tcp", "prefer_udp", "expire 1s", "max_age 20s", "max_idle_conns 3", "read_timeout 1s", "max_fails 1",
		"max_connect_attempts 3", "doh_method GET", "tls", "tls_servername x", "policy sequential", "health_check 1s",
		"health_check 0.5s no_rec", "health_check 0.5s domain x", "failfast_all_unhealthy_upstreams", "failover NXDOMAIN", "source_address 127.0.0.1",
		"policy fastest", "hedge", "hedge 1", "mix_case", "backup 192.0.2.1",
	}
	seen := map[string]string{base.key(): "nothing"}
	for _, p := range differ {
		s, err := stanzaOf("forward . 127.0.0.1 {\n" + p + "\n}")
		if err != nil {
			t.Fatal(err)
		}
		if other, there := seen[s.key()]; there {
			t.Errorf("%q has the key of %q", p, other)
		}
		seen[s.key()] = p
	}
	for _, p := range []string{"max_concurrent 5", "next NXDOMAIN", "next_on_nodata", "except example.org", "chain SERVFAIL"} {
		s, err := stanzaOf("forward example.org 127.0.0.1 {\n" + p + "\n}")
		if err != nil {
			t.Fatal(err)
		}
		if s.key() != base.key() {
			t.Errorf("%q changes the key", p)
		}
	}
}
