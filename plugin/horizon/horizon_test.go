package horizon_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/resolverd/resolverd/corefile"
)

// start serves the Corefile with PORT replaced by a free port, which it returns.
func start(t *testing.T, text string) string {
	t.Helper()
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.LocalAddr().String())
	l.Close()
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
