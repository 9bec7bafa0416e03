package fastpath_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/resolverd/resolverd/corefile"
	"github.com/resolverd/resolverd/internal/resident"
	"github.com/resolverd/resolverd/internal/testnet"
	caches "github.com/resolverd/resolverd/plugin/cache"
	"github.com/resolverd/resolverd/plugin/fastpath"
	"github.com/resolverd/resolverd/registry/names/scene"
)

// upstream answers every name from the name alone, and counts.
type upstream struct {
	addr  string
	asked atomic.Int64
	serve *dns.Server
}

func startUpstream(t *testing.T) *upstream {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &upstream{addr: pc.LocalAddr().String()}
	u.serve = &dns.Server{PacketConn: pc, Handler: u}
	go u.serve.ActivateAndServe()
	t.Cleanup(func() { u.serve.Shutdown() })
	return u
}

func (u *upstream) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	u.asked.Add(1)
	m := new(dns.Msg).SetReply(r)
	m.RecursionAvailable = true
	m.AuthenticatedData = true
	m.Compress = true
	q := r.Question[0]
	low := strings.ToLower(q.Name)
	add := func(format string, args ...any) {
		rr, err := dns.NewRR(fmt.Sprintf(format, args...))
		if err != nil {
			return // the root's children are no names to dns.NewRR
		}
		m.Answer = append(m.Answer, rr)
	}
	if o := r.IsEdns0(); o != nil {
		m.SetEdns0(1232, o.Do())
	}
	switch {
	case strings.Contains(low, "nx"):
		m.Rcode = dns.RcodeNameError
		soa, _ := dns.NewRR("Example.test. 20 IN SOA ns.example.TEST. host.Example.test. 1 2 3 4 20")
		m.Ns = []dns.RR{soa}
	case strings.HasPrefix(low, "alias"):
		add("%s 70 IN CNAME deep.%s", q.Name, q.Name[strings.IndexByte(q.Name, '.')+1:])
		if q.Qtype == dns.TypeA {
			add("deep.%s 90 IN A 192.0.2.9", q.Name[strings.IndexByte(q.Name, '.')+1:])
			break
		}
		soa, _ := dns.NewRR("example.test. 20 IN SOA ns.example.test. host.example.test. 1 2 3 4 20")
		m.Ns = []dns.RR{soa} // else it is not cached, and each query may be the one that fetches
	case q.Qtype == dns.TypeA && strings.HasPrefix(low, "short"):
		add("%s 60 IN A 192.0.2.6", q.Name)
	case q.Qtype == dns.TypeA:
		for i := range 1 + len(low)%3 {
			add("%s 300 IN A 192.0.2.%d", q.Name, i)
		}
	case q.Qtype == dns.TypeMX:
		add("%s 300 IN MX 5 mail.%s", q.Name, q.Name)
		add("%s 300 IN MX 7 mail.example.test.", q.Name)
	case q.Qtype == dns.TypeTXT:
		for i := range 8 {
			add("%s 300 IN TXT \"%d%s\"", q.Name, i, strings.Repeat("x", 20*(len(low)%9)))
		}
	case q.Qtype == dns.TypeSRV:
		add("%s 300 IN SRV 1 2 3 host.%s", q.Name, q.Name)
	default:
		soa, _ := dns.NewRR("example.test. 20 IN SOA ns.example.test. host.example.test. 1 2 3 4 20")
		m.Ns = []dns.RR{soa}
	}
	m.Truncate(1232)
	w.WriteMsg(m)
}

func freePort(t *testing.T) string { return testnet.Port(t) }

// run serves the Corefile and returns its runner and file.
func run(t *testing.T, text string) (*corefile.Runner, string) {
	t.Helper()
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
	return r, file
}

// listenerOf returns the status of the listener on the port.
func listenerOf(t *testing.T, port string) fastpath.ListenerStatus {
	t.Helper()
	// CoreDNS asks for the listener in its server's goroutine, which begins when it will.
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 500 {
		for _, l := range fastpath.Current().Listeners {
			if strings.HasSuffix(l.Listener, ":"+port) {
				return l
			}
		}
		<-tick.C
	}
	t.Fatalf("no listener on port %s in %+v", port, fastpath.Current())
	panic("unreachable")
}

// asker makes raw queries, good and bad.
type asker struct {
	*rand.Rand
	names []string
}

// name returns a name. Only where it was fetched before may it be spelt in any way: else
// the two caches would be filled from different spellings.
func (a *asker) name(spell bool) string {
	n := a.names[a.IntN(len(a.names))]
	if !spell {
		return n
	}
	switch a.IntN(10) {
	case 0, 1:
		b := []byte(n)
		for i, c := range b {
			if 'a' <= c && c <= 'z' && a.IntN(2) == 0 {
				b[i] = c - 32
			}
		}
		return string(b)
	case 2:
		return strings.ToUpper(n)
	}
	return n
}

func (a *asker) query() []byte {
	m := new(dns.Msg)
	types := []uint16{dns.TypeA, dns.TypeA, dns.TypeA, dns.TypeAAAA, dns.TypeMX, dns.TypeTXT, dns.TypeSRV, dns.TypeSOA, dns.TypeNS, dns.TypeDS, dns.TypeANY, dns.TypePTR}
	m.SetQuestion(a.name(false), types[a.IntN(len(types))])
	if a.IntN(10) < 7 {
		// What most clients send, so that there are hits to compare.
		m.SetQuestion(a.name(true), types[2*a.IntN(3)])
		if a.IntN(2) == 0 {
			m.SetEdns0(1232, a.IntN(2) == 0)
		}
		p, err := m.Pack()
		if err != nil {
			panic(err)
		}
		return p
	}
	m.RecursionDesired = a.IntN(8) > 0
	m.CheckingDisabled = a.IntN(8) == 0
	m.AuthenticatedData = a.IntN(4) == 0
	if a.IntN(40) == 0 {
		m.Question[0].Qclass = []uint16{dns.ClassCHAOS, dns.ClassANY, dns.ClassNONE}[a.IntN(3)]
	}
	if a.IntN(40) == 0 {
		m.Opcode = a.IntN(8)
	}
	if a.IntN(60) == 0 {
		m.Truncated, m.Authoritative = a.IntN(2) == 0, a.IntN(2) == 0
		m.RecursionAvailable, m.Zero = a.IntN(2) == 0, a.IntN(2) == 0
		m.Rcode = a.IntN(3)
	}
	if a.IntN(2) == 0 {
		sizes := []uint16{0, 100, 512, 513, 1232, 1232, 1232, 4096, 65535}
		m.SetEdns0(sizes[a.IntN(len(sizes))], a.IntN(3) == 0)
		o := m.IsEdns0()
		switch a.IntN(25) {
		case 0:
			o.Option = append(o.Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0102030405060708"})
		case 1:
			o.Option = append(o.Option, &dns.EDNS0_NSID{Code: dns.EDNS0NSID})
		case 2:
			o.Option = append(o.Option, &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: net.IPv4(10, 1, 2, 0)})
		case 3:
			o.Option = append(o.Option, &dns.EDNS0_LOCAL{Code: 65001, Data: []byte{1}})
		case 4:
			o.SetVersion(1)
		case 5:
			o.SetZ(uint16(a.IntN(1 << 15)))
		case 6:
			o.SetExtendedRcode(uint16(a.IntN(200)))
		case 7:
			o.Hdr.Name = "x."
		case 8:
			m.Extra = append(m.Extra, dns.Copy(o))
		}
	}
	p, err := m.Pack()
	if err != nil {
		panic(err)
	}
	switch a.IntN(30) {
	case 0:
		p = p[:a.IntN(len(p))]
	case 1:
		for range 1 + a.IntN(3) {
			p[2+a.IntN(len(p)-2)] ^= 1 << a.IntN(5)
		}
	case 2:
		p = append(p, make([]byte, a.IntN(600))...)
	}
	return p
}

// prime fetches what most clients ask for, from names in lower case.
func (a *asker) prime(t *testing.T, all []station) {
	t.Helper()
	for _, s := range all {
		var packets [][]byte
		for i, n := range a.names {
			for _, qtype := range []uint16{dns.TypeA, dns.TypeMX} {
				for _, do := range []bool{false, true} {
					m := new(dns.Msg).SetQuestion(n, qtype).SetEdns0(1232, do)
					m.Id = uint16(len(packets))
					p, err := m.Pack()
					if err != nil {
						t.Fatal(err)
					}
					packets = append(packets, p)
				}
			}
			if len(packets) >= 48 || i == len(a.names)-1 {
				f, sl := exchange(t, s.fast, packets), exchange(t, s.slow, packets)
				for i := range packets {
					if f[i] == nil || sl[i] == nil || f[i][3]&15 != sl[i][3]&15 {
						t.Fatalf("query %x: %x and %x", packets[i], f[i], sl[i])
					}
				}
				packets = nil
			}
		}
	}
}

// station is one client with a socket to each of the two listeners.
type station struct{ fast, slow *net.UDPConn }

func dial(t *testing.T, from, to string) *net.UDPConn {
	t.Helper()
	raddr, err := net.ResolveUDPAddr("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(from)}, raddr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// exchange sends packets, whose ids are their indices, and returns the replies by index,
// those that come within 150 ms of the one before.
func exchange(t *testing.T, c *net.UDPConn, packets [][]byte) [][]byte {
	t.Helper()
	for _, p := range packets {
		if _, err := c.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	replies := make([][]byte, len(packets))
	buf := make([]byte, 65536)
	got := 0
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	for got < len(packets) {
		// Some get no reply, and nobody says which.
		n, err := c.Read(buf)
		if err != nil {
			break
		}
		id := int(binary.BigEndian.Uint16(buf))
		if n < 12 || id >= len(replies) || replies[id] != nil {
			t.Fatalf("a reply that was not asked for: %x", buf[:n])
		}
		replies[id] = bytes.Clone(buf[:n])
		got++
		c.SetReadDeadline(time.Now().Add(150 * time.Millisecond))
	}
	return replies
}

// compare says how two replies to the same query differ, or "".
func compare(a, b []byte, random bool) string {
	if (a == nil) != (b == nil) {
		return fmt.Sprintf("one has no reply:\n%x\n%x", a, b)
	}
	if a == nil || bytes.Equal(a, b) {
		return ""
	}
	ma, mb := new(dns.Msg), new(dns.Msg)
	if ma.Unpack(a) != nil || mb.Unpack(b) != nil {
		return fmt.Sprintf("no message:\n%x\n%x", a, b)
	}
	level := func(m, o *dns.Msg) {
		// A server cookie has the second in which it was made.
		if x, y := cookieOf(m), cookieOf(o); x != nil && y != nil && len(x.Cookie) == len(y.Cookie) && x.Cookie[:16] == y.Cookie[:16] {
			x.Cookie = y.Cookie
		}
		// The registry's denial may carry the serial of the moment it was packed.
		if len(m.Ns) == 1 && len(o.Ns) == 1 {
			x, ok := m.Ns[0].(*dns.SOA)
			y, ok2 := o.Ns[0].(*dns.SOA)
			if ok && ok2 && x.Hdr.Name == "internal." {
				x.Serial = y.Serial
			}
		}
		for i, rrs := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
			others := [][]dns.RR{o.Answer, o.Ns, o.Extra}[i]
			for j, rr := range rrs {
				if j < len(others) && rr.Header().Rrtype != dns.TypeOPT {
					if d := int64(rr.Header().Ttl) - int64(others[j].Header().Ttl); d == 1 || d == -1 {
						rr.Header().Ttl = others[j].Header().Ttl
					}
				}
			}
		}
	}
	level(ma, mb)
	if random {
		for _, m := range []*dns.Msg{ma, mb} {
			slices.SortFunc(m.Answer, func(a, b dns.RR) int { return strings.Compare(a.String(), b.String()) })
		}
	}
	if len(a) == len(b) && ma.String() == mb.String() {
		return ""
	}
	return fmt.Sprintf("\n%s\n%s", ma, mb)
}

// cookieOf returns the COOKIE option of m, or nil.
func cookieOf(m *dns.Msg) *dns.EDNS0_COOKIE {
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if c, ok := o.(*dns.EDNS0_COOKIE); ok {
				return c
			}
		}
	}
	return nil
}

func TestDifferential(t *testing.T) {
	rounds := 300
	if testing.Short() {
		rounds = 48
	}
	t.Run("plain", func(t *testing.T) { differ(t, "", rounds) })
	t.Run("limited", func(t *testing.T) {
		differ(t, "rrl {\nresponses 100000\nburst 1m\nloopback\n}", 48)
	})
}

// differ asks two listeners the same, one with the fast path and one without; also is in
// the blocks of both.
func differ(t *testing.T, also string, rounds int) {
	u := startUpstream(t)
	view := scene.New(`
node n1 10.0.0.1
node n2 10.0.0.2
instance n1/web1 web 10.0.1.1:8080
instance n2/web2 web :8081
instance n2/one one :1
instance n1/sick sick :2
check n1/c sick critical
`)
	view.Heard(time.Now())
	resident.Provide("registry.view", view)
	fast, slow := freePort(t), freePort(t)
	block := func(port, keys, more, off string) string {
		return fmt.Sprintf("%s {\nbind 127.0.0.1\nerrors\nnsid x\nany\n%s\n%s\n%s\nregistry internal.\ncache {\nprefetch 5 10s 20%%\nserve_stale\n}\nforward . %s\n}\n",
			strings.ReplaceAll(keys, "PORT", port), more, off, also, u.addr)
	}
	var text string
	for _, l := range []struct{ port, off string }{{fast, ""}, {slow, "fastpath off"}} {
		text += block(l.port, ".:PORT", "prometheus 127.0.0.1:"+freePort(t), l.off) +
			block(l.port, "part.test:PORT", "horizon in 127.1.0.0/16 127.2.0.0/24", l.off) +
			block(l.port, "part.test:PORT", "horizon lab 127.1.9.0/24", l.off)
	}
	// A horizon is defined once.
	text = defineOnce(text)
	runner, _ := run(t, text)
	if s := listenerOf(t, fast); !s.On {
		t.Fatalf("no fast path: %+v", s)
	}
	if s := listenerOf(t, slow); s.On {
		t.Fatalf("a fast path: %+v", s)
	}

	a := &asker{Rand: rand.New(rand.NewPCG(7, uint64(time.Now().UnixNano())))}
	for i := range 12 {
		a.names = append(a.names, fmt.Sprintf("n%d.example.test.", i), fmt.Sprintf("%s.test.", strings.Repeat("long", i+1)))
	}
	a.names = append(a.names, "alias.example.test.", "short.example.test.", "nx1.example.test.", "a.part.test.", "b.part.test.",
		"web.service.internal.", "one.service.internal.", "sick.service.internal.", "none.service.internal.", "n1.node.internal.",
		"internal.", "service.internal.", "1.0.0.10.in-addr.arpa.", ".", "test.", "ns.internal.")
	var stations []station
	for _, from := range []string{"127.0.0.1", "127.0.0.2", "127.1.0.1", "127.1.9.1", "127.2.0.7", "127.3.0.1"} {
		stations = append(stations, station{dial(t, from, "127.0.0.1:"+fast), dial(t, from, "127.0.0.1:"+slow)})
	}
	queries := 0
	for round := range rounds {
		if round%12 == 11 {
			switch (round / 12) % 4 {
			case 0:
				caches.Each(func(c *caches.Store) { c.Flush() })
			case 1:
				if err := scene.Apply(view, fmt.Sprintf("instance n2/one one 10.0.3.%d:9", round)); err != nil {
					t.Fatal(err)
				}
			case 2:
				if err := runner.Reload(context.Background()); err != nil {
					t.Fatal(err)
				}
			case 3:
				caches.Each(func(c *caches.Store) { c.FlushName("alias.example.test.") })
			}
		}
		if round%12 == 11 || round == 0 {
			a.prime(t, stations)
		}
		s := stations[a.IntN(len(stations))]
		packets := make([][]byte, 0, 50)
		for range 49 {
			p := a.query()
			if len(p) < 12 {
				continue
			}
			binary.BigEndian.PutUint16(p, uint16(len(packets)))
			packets = append(packets, p)
		}
		queries += len(packets)
		f, sl := exchange(t, s.fast, packets), exchange(t, s.slow, packets)
		for i, p := range packets {
			random := bytes.Contains(bytes.ToLower(p), []byte("\x03web\x07service"))
			if (f[i] == nil) != (sl[i] == nil) {
				// On a busy machine a reply may come after its time: once more, alone.
				again := bytes.Clone(p)
				binary.BigEndian.PutUint16(again, 0)
				f[i], sl[i] = exchange(t, s.fast, [][]byte{again})[0], exchange(t, s.slow, [][]byte{again})[0]
			}
			if d := compare(f[i], sl[i], random); d != "" {
				m := new(dns.Msg)
				m.Unpack(p)
				t.Errorf("round %d, query from %s:\n%x\n%s\nwith the fast path, and without:%s", round, s.fast.LocalAddr(), p, m, d)
			}
		}
		if t.Failed() {
			break
		}
	}
	st := listenerOf(t, fast)
	t.Logf("%d queries, since the last reload %d hits, %d misses", queries, st.Hits, st.Misses)
	if st.Hits == 0 {
		t.Error("no hit: nothing was compared")
	}
}

// TestSpelling asks one name in many spellings, of which each in turn is the one that
// fetches the answer and the one from which it is learnt.
func TestSpelling(t *testing.T) {
	u := startUpstream(t)
	fast, slow := freePort(t), freePort(t)
	var text string
	for _, l := range []string{fast, slow + " slow"} {
		port, off, _ := strings.Cut(l, " ")
		if off != "" {
			off = "fastpath off"
		}
		text += fmt.Sprintf(".:%s {\nbind 127.0.0.1\n%s\ncache\nforward . %s\n}\n", port, off, u.addr)
	}
	run(t, text)
	f, s := dial(t, "127.0.0.1", "127.0.0.1:"+fast), dial(t, "127.0.0.1", "127.0.0.1:"+slow)
	for i, suffix := range []string{".example.test.", ".nx.Example.test.", ".ExAMPLE.test."} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeMX, dns.TypeTXT, dns.TypeSRV, dns.TypeNS} {
			for n, first := range []string{"echo", "EchO", "ECHO"} {
				name := fmt.Sprintf("%s%d%s", first, n, suffix)
				low := strings.ToLower(name)
				for step, spelt := range []string{name, name, low, low, strings.ToUpper(low), low, name, "eC" + low[2:]} {
					m := new(dns.Msg).SetQuestion(spelt, qtype)
					m.Id = 0
					p, err := m.Pack()
					if err != nil {
						t.Fatal(err)
					}
					a, b := exchange(t, f, [][]byte{p}), exchange(t, s, [][]byte{p})
					if d := compare(a[0], b[0], false); d != "" {
						t.Errorf("%d: %s after %s, step %d:%s", i, spelt, name, step, d)
					}
				}
			}
		}
	}
	if st := listenerOf(t, fast); st.Hits < 100 {
		t.Errorf("%d hits only", st.Hits)
	}
}

// defineOnce leaves the prefixes of a horizon to its first line.
func defineOnce(text string) string {
	seen := map[string]bool{}
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if f := strings.Fields(l); len(f) > 2 && f[0] == "horizon" {
			if seen[f[1]] {
				lines[i] = "horizon " + f[1]
			}
			seen[f[1]] = true
		}
	}
	return strings.Join(lines, "\n")
}
