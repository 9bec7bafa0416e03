package horizon_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns/coredns/pb"
	"github.com/miekg/dns"
	"github.com/quic-go/quic-go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/resolverd/resolverd/corefile"
	"github.com/resolverd/resolverd/internal/testnet"
)

// start serves the Corefile with PORT replaced by a free port, which it returns.
func start(t *testing.T, text string) string {
	t.Helper()
	port := testnet.Port(t)
	r, err := corefile.Start(corefile.Config{Source: corefile.Source{File: write(t, strings.ReplaceAll(text, "PORT", port))}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return port
}

func write(t *testing.T, text string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "Corefile")
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// says is a template plugin that answers every query with a TXT of the word.
func says(word string) string {
	return fmt.Sprintf("template ANY ANY {\nanswer \"{{ .Name }} 0 IN TXT %s\"\n}\n", word)
}

// ask sends a query from the address and returns the TXT, or the RCODE and the EDE.
func ask(t *testing.T, network, from, to, name string, qtype uint16) string {
	t.Helper()
	src := net.ParseIP(from)
	c := &dns.Client{Net: network, Dialer: &net.Dialer{LocalAddr: &net.UDPAddr{IP: src}}}
	if network == "tcp" {
		c.Dialer.LocalAddr = &net.TCPAddr{IP: src}
	}
	m := new(dns.Msg).SetQuestion(name, qtype).SetEdns0(1232, false)
	// What the query claims about its client must not count.
	m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 32, Address: net.IPv4(127, 1, 0, 1)})
	r, _, err := c.Exchange(m, to)
	if err != nil {
		t.Fatalf("%s from %s: %v", name, from, err)
	}
	if len(r.Answer) == 1 {
		return r.Answer[0].(*dns.TXT).Txt[0]
	}
	out := dns.RcodeToString[r.Rcode]
	if o := r.IsEdns0(); o != nil {
		for _, e := range o.Option {
			if e, ok := e.(*dns.EDNS0_EDE); ok {
				out += fmt.Sprintf(" EDE %d", e.InfoCode)
			}
		}
	}
	return out
}

func TestSelection(t *testing.T) {
	block := func(keys, horizon, word string) string {
		if horizon != "" {
			horizon = "horizon " + horizon + "\n"
		}
		return keys + " {\nbind 127.0.0.1\n" + horizon + says(word) + "}\n"
	}
	// The same blocks in two orders: it must not matter.
	blocks := []string{
		block("both.test:PORT two.both.test:PORT", "", "rest"),
		block("both.test:PORT two.both.test:PORT", "inside 127.1.0.0/16 127.2.0.0/16", "inside"),
		block("both.test:PORT two.both.test:PORT", "lab", "lab"),
		block("closed.test:PORT", "inside", "closed-inside"),
		block(".:PORT", "", "root"),
		block("parent.test:PORT", "", "parent"),
		block("child.parent.test:PORT", "lab 127.1.7.0/24", "child"),
	}
	reversed := slices.Clone(blocks)
	slices.Reverse(reversed)
	for order, text := range map[string]string{"as written": strings.Join(blocks, ""), "reversed": strings.Join(reversed, "")} {
		t.Run(order, func(t *testing.T) {
			port := start(t, text)
			for _, network := range []string{"udp", "tcp"} {
				for _, tc := range []struct {
					from, name string
					qtype      uint16
					want       string
				}{
					{"127.1.0.1", "a.both.test.", dns.TypeA, "inside"},
					{"127.2.0.1", "A.BOTH.Test.", dns.TypeA, "inside"},
					{"127.1.7.9", "a.both.test.", dns.TypeA, "lab"}, // the longest prefix
					{"127.1.7.9", "two.both.test.", dns.TypeA, "lab"},
					{"127.3.0.1", "a.both.test.", dns.TypeA, "rest"},
					{"127.1.0.1", "a.closed.test.", dns.TypeA, "closed-inside"},
					{"127.3.0.1", "a.closed.test.", dns.TypeA, "REFUSED EDE 18"}, // not "root"
					{"127.3.0.1", "closed.test.", dns.TypeSOA, "REFUSED EDE 18"},
					{"127.3.0.1", "a.closed.test.", dns.TypeDS, "REFUSED EDE 18"},
					{"127.3.0.1", "closed.test.", dns.TypeDS, "REFUSED EDE 18"},
					{"127.1.7.9", "a.child.parent.test.", dns.TypeA, "child"},
					{"127.1.0.1", "a.child.parent.test.", dns.TypeA, "REFUSED EDE 18"}, // not "parent"
					{"127.1.0.1", "a.child.parent.test.", dns.TypeDS, "REFUSED EDE 18"},
					{"127.1.0.1", "child.parent.test.", dns.TypeDS, "REFUSED EDE 18"},
					{"127.1.7.9", "child.parent.test.", dns.TypeDS, "parent"}, // as in stock: the parent has it
					{"127.1.0.1", "a.parent.test.", dns.TypeA, "parent"},
					{"127.3.0.1", "elsewhere.test.", dns.TypeA, "root"},
					{"127.3.0.1", ".", dns.TypeNS, "root"},
				} {
					if got := ask(t, network, tc.from, "127.0.0.1:"+port, tc.name, tc.qtype); got != tc.want {
						t.Errorf("%s %s %s from %s: %s, want %s", network, tc.name, dns.TypeToString[tc.qtype], tc.from, got, tc.want)
					}
				}
			}
		})
	}
}

// TestMappedClients listens on all addresses of both families, where IPv4 clients
// arrive as IPv4-mapped IPv6.
func TestMappedClients(t *testing.T) {
	port := start(t, ".:PORT {\nhorizon four 127.0.0.0/8\n"+says("four")+"}\n.:PORT {\nhorizon six ::1 ::ffff:0:0/97\n"+says("six")+"}\n")
	if got := ask(t, "udp", "127.0.0.1", "127.0.0.1:"+port, "a.test.", dns.TypeA); got != "four" {
		t.Errorf("IPv4: %s", got)
	}
	if got := ask(t, "udp", "::1", "[::1]:"+port, "a.test.", dns.TypeA); got != "six" {
		t.Errorf("IPv6: %s", got)
	}
}

// TestView puts stock views beside horizons: where a view rejects, the parent's block
// must not answer in its place.
func TestView(t *testing.T) {
	port := start(t, `.:PORT {
bind 127.0.0.1
`+says("root")+`}
v.test:PORT {
bind 127.0.0.1
horizon in 127.1.0.0/16
view odd {
expr name() == 'odd.v.test.'
}
`+says("odd")+`}
`)
	for _, tc := range []struct{ from, name, want string }{
		{"127.1.0.1", "odd.v.test.", "odd"},
		{"127.1.0.1", "even.v.test.", "REFUSED EDE 18"},
		{"127.2.0.1", "odd.v.test.", "REFUSED EDE 18"},
		{"127.2.0.1", "else.test.", "root"},
	} {
		if got := ask(t, "udp", tc.from, "127.0.0.1:"+port, tc.name, dns.TypeA); got != tc.want {
			t.Errorf("%s from %s: %s, want %s", tc.name, tc.from, got, tc.want)
		}
	}
}

// TestLongestPrefix compares a real server with 3,000 random prefixes in 20 blocks to
// the plainest thing that could be right.
func TestLongestPrefix(t *testing.T) {
	const horizons, prefixes, queries = 20, 3000, 4000
	rnd := rand.New(rand.NewPCG(1, 2))
	addr := func() netip.Addr {
		// Few different octets, so that prefixes nest.
		few := func() byte { return []byte{0, 1, 2, 64, 128, 200, 255}[rnd.IntN(7)] ^ byte(rnd.IntN(4)) }
		return netip.AddrFrom4([4]byte{127, few(), few(), 1 + byte(rnd.IntN(250))})
	}
	owner := map[netip.Prefix]int{}
	for len(owner) < prefixes {
		p, err := addr().Prefix(18 + rnd.IntN(15))
		if err != nil {
			t.Fatal(err)
		}
		if _, taken := owner[p]; !taken {
			owner[p] = rnd.IntN(horizons)
		}
	}
	lines := make([]string, horizons)
	for p, h := range owner {
		lines[h] += " " + p.String()
	}
	var blocks []string
	for h, l := range lines {
		blocks = append(blocks, fmt.Sprintf("r.test:PORT {\nbind 127.0.0.1\nhorizon h%d%s\n%s}\n", h, l, says(fmt.Sprint("h", h))))
	}
	rnd.Shuffle(len(blocks), func(i, j int) { blocks[i], blocks[j] = blocks[j], blocks[i] })
	port := start(t, ".:PORT {\nbind 127.0.0.1\n"+says("leak")+"}\n"+strings.Join(blocks, ""))

	refused := 0
	for i := range queries {
		from := addr()
		if i%4 == 0 {
			from = netip.AddrFrom4([4]byte{127, byte(rnd.IntN(256)), byte(rnd.IntN(256)), 1 + byte(rnd.IntN(250))})
		}
		want, bits := "REFUSED EDE 18", -1
		for p, h := range owner {
			if p.Contains(from) && p.Bits() > bits {
				want, bits = fmt.Sprint("h", h), p.Bits()
			}
		}
		if bits < 0 {
			refused++
		}
		if got := ask(t, "udp", from.String(), "127.0.0.1:"+port, "x.r.test.", dns.TypeA); got != want {
			t.Fatalf("client %s: %s, want %s", from, got, want)
		}
	}
	if refused == 0 || refused == queries {
		t.Fatalf("%d of %d queries refused: the test asks nothing", refused, queries)
	}
}

func TestErrors(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"undefined":      {".:0 {\nhorizon in\n}\n", ":2: horizon: in is defined nowhere: one line in the file must be `horizon in PREFIX...`"},
		"no name":        {".:0 {\nhorizon\n}\n", ":2: horizon: Wrong argument count or unexpected line ending after 'horizon'"},
		"prefix first":   {".:0 {\nhorizon 10.0.0.0/8\n}\n", ":2: horizon: the name is missing before 10.0.0.0/8"},
		"bad name":       {".:0 {\nhorizon in/out\n}\n", ":2: horizon: \"in/out\" is no name: letters, digits, - and _, at most 63"},
		"bad prefix":     {".:0 {\nhorizon in 10.0.0.0/33\n}\n", ":2: horizon: \"10.0.0.0/33\" is neither an address nor a prefix such as 10.0.0.0/8 or fd00::/8"},
		"host bits":      {".:0 {\n\nhorizon in 10.1.2.3/8\n}\n", ":3: horizon: \"10.1.2.3/8\" has bits set behind its length: did you mean 10.0.0.0/8?"},
		"mapped":         {".:0 {\nhorizon in ::ffff:10.0.0.0/90\n}\n", ":2: horizon: \"::ffff:10.0.0.0/90\" reaches beyond the IPv4-mapped addresses: write IPv4 prefixes as IPv4"},
		"scoped":         {".:0 {\nhorizon in fe80::1%eth0\n}\n", ":2: horizon: \"fe80::1%eth0\": a client's interface is not looked at, leave out %eth0"},
		"twice in block": {".:0 {\nhorizon in 10.0.0.0/8\nhorizon in\n}\n", ":3: horizon: in is named twice in this block"},
		"a block":        {".:0 {\nhorizon in 10.0.0.0/8 {\nx\n}\n}\n", ":3: horizon: takes no block, but \"x\""},
		"two owners":     {".:0 {\nhorizon in 10.0.0.0/8\n}\na.:0 {\nhorizon out 10.0.0.0/8\n}\n", ":5: horizon: 10.0.0.0/8 belongs to horizon in already, at FILE:2"},
		"two meanings":   {".:0 {\nhorizon in 10.0.0.0/8\n}\na.:0 {\nhorizon in 11.0.0.0/8\n}\n", ":5: horizon: in is defined already at FILE:2: here its name alone is enough"},
	} {
		t.Run(name, func(t *testing.T) {
			file := write(t, tc.text)
			_, err := corefile.Check(corefile.Source{File: file})
			if err == nil {
				t.Fatal("no error")
			}
			if got := strings.ReplaceAll(err.Error(), file, "FILE"); got != "FILE"+tc.want {
				t.Errorf("\ngot  %s\nwant FILE%s", got, tc.want)
			}
		})
	}
}

// TestEveryTransport asks over each transport that CoreDNS has, from two addresses.
func TestEveryTransport(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certificate(t, cert, key)
	ports := map[string]string{}
	var text strings.Builder
	for _, tr := range []string{"dns", "tls", "https", "grpc", "quic"} {
		ports[tr] = testnet.Port(t)
		tls := "tls " + cert + " " + key + "\n"
		if tr == "dns" {
			tls = ""
		}
		fmt.Fprintf(&text, "%s://.:%s {\nbind 127.0.0.1\n%s%s}\n", tr, ports[tr], tls, says("leak"))
		name := "horizon in"
		if tr == "dns" {
			name += " 127.1.0.0/16"
		}
		fmt.Fprintf(&text, "%s://in.test:%s {\nbind 127.0.0.1\n%s\n%s%s}\n", tr, ports[tr], name, tls, says("in"))
	}
	start(t, text.String())
	for tr, port := range ports {
		for from, want := range map[string]string{"127.1.0.1": "in", "127.2.0.1": "REFUSED"} {
			for _, qtype := range []uint16{dns.TypeA, dns.TypeDS} {
				m := new(dns.Msg).SetQuestion("x.in.test.", qtype)
				r, err := exchange(t, tr, from, "127.0.0.1:"+port, m)
				if err != nil {
					t.Errorf("%s from %s: %v", tr, from, err)
					continue
				}
				got := dns.RcodeToString[r.Rcode]
				if len(r.Answer) == 1 {
					got = r.Answer[0].(*dns.TXT).Txt[0]
				}
				if got != want {
					t.Errorf("%s %s from %s: %s, want %s", tr, dns.TypeToString[qtype], from, got, want)
				}
			}
		}
	}
}

// exchange sends m over the transport from the address.
func exchange(t *testing.T, transport, from, to string, m *dns.Msg) (*dns.Msg, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	insecure := &tls.Config{InsecureSkipVerify: true} // the test's own certificate
	wire, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	answer := new(dns.Msg)
	switch transport {
	case "dns":
		r, _, err := (&dns.Client{Net: "tcp", Dialer: dialer}).ExchangeContext(ctx, m, to)
		return r, err
	case "tls":
		r, _, err := (&dns.Client{Net: "tcp-tls", Dialer: dialer, TLSConfig: insecure}).ExchangeContext(ctx, m, to)
		return r, err
	case "https":
		tr := &http.Transport{DialContext: dialer.DialContext, TLSClientConfig: insecure, DisableKeepAlives: true}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+to+"/dns-query", bytes.NewReader(wire))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", "application/dns-message")
		resp, err := tr.RoundTrip(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			return nil, err
		}
		return answer, answer.Unpack(b)
	case "grpc":
		c, err := grpc.NewClient(to, grpc.WithTransportCredentials(credentials.NewTLS(insecure)),
			grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
				return dialer.DialContext(ctx, "tcp", addr)
			}))
		if err != nil {
			return nil, err
		}
		defer c.Close()
		reply, err := pb.NewDnsServiceClient(c).Query(ctx, &pb.DnsPacket{Msg: wire})
		if err != nil {
			return nil, err
		}
		return answer, answer.Unpack(reply.Msg)
	case "quic":
		u, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(from)})
		if err != nil {
			return nil, err
		}
		defer u.Close()
		addr, err := net.ResolveUDPAddr("udp", to)
		if err != nil {
			return nil, err
		}
		insecure.NextProtos = []string{"doq"}
		q := &quic.Transport{Conn: u}
		defer q.Close()
		c, err := q.Dial(ctx, addr, insecure, nil)
		if err != nil {
			return nil, err
		}
		defer c.CloseWithError(0, "")
		s, err := c.OpenStreamSync(ctx)
		if err != nil {
			return nil, err
		}
		wire[0], wire[1] = 0, 0 // RFC 9250, section 4.2.1
		if _, err := s.Write(append([]byte{byte(len(wire) >> 8), byte(len(wire))}, wire...)); err != nil {
			return nil, err
		}
		s.Close()
		b, err := io.ReadAll(s)
		if err != nil || len(b) < 2 {
			return nil, fmt.Errorf("%d octets: %w", len(b), err)
		}
		return answer, answer.Unpack(b[2:])
	}
	t.Fatalf("no transport %s", transport)
	return nil, nil
}

// certificate writes a key and a certificate of its own for 127.0.0.1.
func certificate(t *testing.T, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	cert, err := x509.CreateCertificate(crand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
