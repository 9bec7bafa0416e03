package forward

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// recorder counts what an Observer is told.
type recorder struct {
	Silent
	mu    sync.Mutex
	conns map[string]int // "udp new", "tcp reused" ...
	ignored, retried,
	probesFailed atomic.Int32
}

func (r *recorder) Ignored(Endpoint)     { r.ignored.Add(1) }
func (r *recorder) Retried(Endpoint)     { r.retried.Add(1) }
func (r *recorder) ProbeFailed(Endpoint) { r.probesFailed.Add(1) }
func (r *recorder) Connection(_ Endpoint, proto string, reused bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conns == nil {
		r.conns = map[string]int{}
	}
	if reused {
		r.conns[proto+" reused"]++
		return
	}
	r.conns[proto+" new"]++
}

func (r *recorder) opened(proto string) (fresh, reused int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.conns[proto+" new"], r.conns[proto+" reused"]
}

// poolOf is a pool over real upstreams.
func poolOf(t *testing.T, change func(*Options), up ...Endpoint) (*Pool, *recorder) {
	t.Helper()
	o := Default()
	o.Policy = Sequential
	o.ReadTimeout = time.Second
	o.MaxFails = 0
	rec := &recorder{}
	o.Observer = rec
	for _, e := range up {
		o.Sources = append(o.Sources, Source{Endpoint: e})
	}
	if change != nil {
		change(&o)
	}
	p, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p, rec
}

// ask returns the outcome of one query in a line.
func ask(t *testing.T, p *Pool, change func(*Query)) string {
	t.Helper()
	q := Query{Msg: new(dns.Msg).SetQuestion("www.Example.org.", dns.TypeA)}
	proto := ""
	q.Attempted = func(a Attempt) { proto = a.Proto }
	if change != nil {
		change(&q)
	}
	resp, err := p.Exchange(t.Context(), q)
	if err != nil {
		return err.Error()
	}
	if resp.Msg.Id != q.Msg.Id || resp.Msg.Question[0] != q.Msg.Question[0] {
		t.Errorf("the client gets id %d and %v", resp.Msg.Id, resp.Msg.Question)
	}
	out := fmt.Sprintf("%s %d", dns.RcodeToString[resp.Msg.Rcode], len(resp.Msg.Answer))
	if resp.Msg.Truncated {
		out += " TC"
	}
	return out + " " + proto
}

func plain(a netip.AddrPort) Endpoint { return Endpoint{Addr: a} }

func TestPlainUpstream(t *testing.T) {
	many := func(r *dns.Msg) *dns.Msg {
		m := answerA(r)
		for range 300 {
			m.Answer = append(m.Answer, m.Answer[0])
		}
		return m
	}
	lower := func(r *dns.Msg) *dns.Msg {
		m := answerA(r)
		m.Question[0].Name = strings.ToLower(m.Question[0].Name)
		return m
	}
	noEDNS := func(r *dns.Msg) *dns.Msg {
		if r.IsEdns0() != nil {
			return new(dns.Msg).SetRcode(&dns.Msg{MsgHdr: dns.MsgHdr{Id: r.Id}, Question: r.Question}, dns.RcodeFormatError)
		}
		return answerA(r)
	}
	tests := []struct {
		name   string
		udp    handlerFunc
		tcp    handlerFunc
		change func(*Options)
		query  func(*Query)
		want   string
	}{
		{"udp", answerA, nil, nil, nil, "NOERROR 1 udp"},
		{"client on tcp", answerA, many, nil, func(q *Query) { q.TCP = true }, "NOERROR 301 tcp"},
		{"client on tcp, prefer_udp", answerA, many, func(o *Options) { o.PreferUDP = true }, func(q *Query) { q.TCP = true }, "NOERROR 1 udp"},
		{"force_tcp", answerA, many, func(o *Options) { o.ForceTCP = true }, nil, "NOERROR 301 tcp"},
		{"force_tcp wins over prefer_udp", answerA, many, func(o *Options) { o.ForceTCP, o.PreferUDP = true, true }, nil, "NOERROR 301 tcp"},
		{"truncated goes to tcp", cut, many, nil, nil, "NOERROR 301 tcp"},
		{"truncated and no tcp", cut, nil, nil, nil, "NOERROR 0 TC udp"},
		{"larger than asked for", many, many, nil, nil, "NOERROR 301 tcp"},
		{"as large as asked for", many, nil, func(o *Options) { o.EDNSSize = 65000 }, nil, "NOERROR 301 udp"},
		{"question in another case goes to tcp", lower, answerA, nil, nil, "NOERROR 1 tcp"},
		{"question in another case over tcp too", lower, lower, nil, nil, "NOERROR 1 tcp"},
		{"no EDNS known", noEDNS, nil, nil, nil, "NOERROR 1 udp"},
		{"no EDNS known, the client wants DO", noEDNS, nil, nil, func(q *Query) { q.Msg.SetEdns0(1232, true) }, "FORMERR 0 udp"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, tt.udp, tt.tcp, nil, nil)
			p, _ := poolOf(t, tt.change, plain(s.addr))
			if got := ask(t, p, tt.query); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// replyTo packs a reply to a raw query.
func replyTo(t *testing.T, query []byte, change func(*dns.Msg)) []byte {
	t.Helper()
	q := new(dns.Msg)
	if err := q.Unpack(query); err != nil {
		t.Error(err)
		return nil
	}
	m := answerA(q)
	if change != nil {
		change(m)
	}
	wire, err := m.Pack()
	if err != nil {
		t.Error(err)
	}
	return wire
}

func TestForgedRepliesAreIgnored(t *testing.T) {
	forged := func(m *dns.Msg) { m.Answer[0].(*dns.A).A = net.IPv4(203, 0, 113, 66) }
	forgeries := map[string]func(*dns.Msg){
		"another id":       func(m *dns.Msg) { forged(m); m.Id++ },
		"another question": func(m *dns.Msg) { forged(m); m.Question[0].Name = "www.example.net." },
		"another type":     func(m *dns.Msg) { forged(m); m.Question[0].Qtype = dns.TypeAAAA },
		"a query":          func(m *dns.Msg) { forged(m); m.Response = false },
		"no question":      func(m *dns.Msg) { forged(m); m.Question = nil },
	}
	for name, f := range forgeries {
		t.Run(name, func(t *testing.T) {
			addr := rawUDP(t, func(q []byte) [][]byte {
				return [][]byte{replyTo(t, q, f), {1, 2, 3}, {}, replyTo(t, q, f), replyTo(t, q, nil)}
			})
			p, rec := poolOf(t, nil, plain(addr))
			resp, err := p.Exchange(t.Context(), Query{Msg: new(dns.Msg).SetQuestion("www.Example.org.", dns.TypeA)})
			if err != nil {
				t.Fatal(err)
			}
			if a := resp.Msg.Answer[0].(*dns.A).A.String(); a != "192.0.2.1" {
				t.Errorf("the forged answer %s was believed", a)
			}
			if n := rec.ignored.Load(); n != 4 {
				t.Errorf("%d packets were ignored, want 4", n)
			}
		})
	}
}

// A packet from another port of the upstream's address never reaches us.
func TestReplyFromAnotherPort(t *testing.T) {
	other, err := net.ListenPacket("udp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	pc, err := net.ListenPacket("udp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 2000)
		n, from, err := pc.ReadFrom(buf)
		if err != nil {
			return
		}
		forged := replyTo(t, buf[:n], func(m *dns.Msg) { m.Answer[0].(*dns.A).A = net.IPv4(203, 0, 113, 66) })
		_, _ = other.WriteTo(forged, from)
		_, _ = pc.WriteTo(replyTo(t, buf[:n], nil), from)
	}()
	defer func() { pc.Close(); <-done }()
	p, rec := poolOf(t, nil, plain(pc.LocalAddr().(*net.UDPAddr).AddrPort()))
	resp, err := p.Exchange(t.Context(), Query{Msg: new(dns.Msg).SetQuestion("www.example.org.", dns.TypeA)})
	if err != nil || resp.Msg.Answer[0].(*dns.A).A.String() != "192.0.2.1" || rec.ignored.Load() != 0 {
		t.Errorf("response %v, error %v, ignored %d", resp.Msg, err, rec.ignored.Load())
	}
}

// A reply with the right id that cannot be read is asked for again where nobody can
// forge, rather than believed or waited for.
func TestGarbledReplyGoesToTCP(t *testing.T) {
	s := serve(t, nil, answerA, nil, nil)
	pc, err := net.ListenPacket("udp", s.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 2000)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			wire := replyTo(t, buf[:n], nil)
			_, _ = pc.WriteTo(wire[:len(wire)-3], from)
		}
	}()
	defer func() { pc.Close(); <-done }()
	p, rec := poolOf(t, nil, plain(s.addr))
	if got := ask(t, p, nil); got != "NOERROR 1 tcp" || rec.retried.Load() != 1 {
		t.Errorf("got %q, %d retries", got, rec.retried.Load())
	}
}

func TestIDsAndPortsAreNotGuessable(t *testing.T) {
	var mu sync.Mutex
	ids, ports := map[uint16]bool{}, map[string]bool{}
	pc, err := net.ListenPacket("udp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 2000)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			mu.Lock()
			ids[binary.BigEndian.Uint16(buf)] = true
			ports[from.String()] = true
			mu.Unlock()
			_, _ = pc.WriteTo(replyTo(t, buf[:n], nil), from)
		}
	}()
	defer func() { pc.Close(); <-done }()
	p, _ := poolOf(t, nil, plain(pc.LocalAddr().(*net.UDPAddr).AddrPort()))
	const n = 320
	for range n {
		if got := ask(t, p, nil); got != "NOERROR 1 udp" {
			t.Fatal(got)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(ids) < n*9/10 {
		t.Errorf("%d ids in %d queries", len(ids), n)
	}
	if want := n / udpUses; len(ports) < want {
		t.Errorf("%d ports in %d queries, want %d", len(ports), n, want)
	}
}

func TestNobodyListens(t *testing.T) {
	s := serve(t, nil, nil, nil, nil)
	p, _ := poolOf(t, nil, plain(s.addr))
	began := time.Now()
	if got := ask(t, p, nil); !strings.Contains(got, "connection refused") {
		t.Errorf("got %q", got)
	}
	if took := time.Since(began); took > 500*time.Millisecond {
		t.Errorf("it took %s to learn that nobody listens", took)
	}
}

// A socket that became useless while it was idle costs no query.
func TestBrokenIdleSocket(t *testing.T) {
	s := serve(t, answerA, nil, nil, nil)
	p, rec := poolOf(t, func(o *Options) { o.MaxAttempts = 1 }, plain(s.addr))
	ask(t, p, nil)
	u := (*p.ups.Load())[0].first.(*udp)
	u.mu.Lock()
	raw, err := u.socks[0].conn.SyscallConn()
	u.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) { err = syscall.Shutdown(int(fd), syscall.SHUT_WR) })
	if err != nil {
		t.Fatal(err)
	}
	if got := ask(t, p, nil); got != "NOERROR 1 udp" {
		t.Errorf("got %q", got)
	}
	if fresh, reused := rec.opened("udp"); fresh != 2 || reused != 1 {
		t.Errorf("%d new, %d reused", fresh, reused)
	}
}

func TestTCPConnectionsAreKept(t *testing.T) {
	s := serve(t, nil, answerA, nil, nil)
	p, rec := poolOf(t, func(o *Options) { o.ForceTCP = true }, plain(s.addr))
	for range 10 {
		if got := ask(t, p, nil); got != "NOERROR 1 tcp" {
			t.Fatal(got)
		}
	}
	if n := s.conns.Load(); n != 1 {
		t.Errorf("%d connections for 10 queries", n)
	}
	if fresh, reused := rec.opened("tcp"); fresh != 1 || reused != 9 {
		t.Errorf("%d new, %d reused", fresh, reused)
	}
}

// An upstream closes connections as it likes: no query is lost to that.
func TestUpstreamClosesIdleConnections(t *testing.T) {
	a := newAuthority(t)
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls %t", secure), func(t *testing.T) {
			change := func(d *dns.Server) { d.MaxTCPQueries = 2 }
			var s *server
			var e Endpoint
			if secure {
				s = serve(t, nil, answerA, a.server, change)
				e = Endpoint{Transport: TLS, Addr: s.addr}
			} else {
				s = serve(t, nil, answerA, nil, change)
				e = plain(s.addr)
			}
			p, _ := poolOf(t, func(o *Options) { o.ForceTCP, o.TLS, o.MaxAttempts = true, a.client, 1 }, e)
			for i := range 20 {
				if got := ask(t, p, nil); got != "NOERROR 1 tcp" {
					t.Fatalf("query %d: %q", i, got)
				}
			}
			if n := s.conns.Load(); n < 10 {
				t.Errorf("%d connections of 2 queries each for 20 queries", n)
			}
		})
	}
}

// Many queries at once over a stream transport: each gets its own answer.
func TestConcurrentQueries(t *testing.T) {
	a := newAuthority(t)
	echo := func(r *dns.Msg) *dns.Msg {
		m := new(dns.Msg).SetReply(r)
		m.Answer = []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: r.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{r.Question[0].Name}}}
		return m
	}
	udp := serve(t, echo, echo, nil, nil)
	dot := serve(t, nil, echo, a.server, nil)
	doq, _, _ := serveQUIC(t, a, echo)
	for name, e := range map[string]Endpoint{
		"udp": plain(udp.addr), "tls": {Transport: TLS, Addr: dot.addr},
		"https": {Transport: HTTPS, Addr: serveHTTPS(t, a, echo, nil)}, "quic": {Transport: QUIC, Addr: doq},
	} {
		t.Run(name, func(t *testing.T) {
			p, _ := poolOf(t, func(o *Options) { o.TLS = a.client }, e)
			var wg sync.WaitGroup
			for g := range 16 {
				wg.Go(func() {
					for i := range 20 {
						name := fmt.Sprintf("n%d-%d.example.org.", g, i)
						resp, err := p.Exchange(t.Context(), Query{Msg: new(dns.Msg).SetQuestion(name, dns.TypeTXT)})
						if err != nil {
							t.Error(err)
							return
						}
						if got := resp.Msg.Answer[0].(*dns.TXT).Txt[0]; got != name {
							t.Errorf("%s got the answer of %s", name, got)
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

func TestTLSNames(t *testing.T) {
	a := newAuthority(t)
	dot := serve(t, nil, answerA, a.server, nil).addr
	doh := serveHTTPS(t, a, answerA, nil)
	doq, _, _ := serveQUIC(t, a, answerA)
	tests := []struct {
		name   string
		server string
		trust  bool
		ok     bool
	}{
		{"the address is in the certificate", "", true, true},
		{"the name is in the certificate", "dns.example", true, true},
		{"another name", "other.example", true, false},
		{"an unknown authority", "dns.example", false, false},
	}
	for _, tt := range tests {
		for tr, up := range map[Transport]struct {
			addr  netip.AddrPort
			proto string
		}{TLS: {dot, "tcp"}, HTTPS: {doh, "tcp"}, QUIC: {doq, "udp"}} {
			t.Run(tt.name+" "+tr.String(), func(t *testing.T) {
				p, _ := poolOf(t, func(o *Options) {
					if tt.trust {
						o.TLS = a.client
					}
				}, Endpoint{Transport: tr, Addr: up.addr, ServerName: tt.server})
				got := ask(t, p, nil)
				if want := "NOERROR 1 " + up.proto; tt.ok && got != want || !tt.ok && strings.HasPrefix(got, "NOERROR") {
					t.Errorf("got %q", got)
				}
			})
		}
	}
}

// A peer that accepts and says nothing must leave time for the next.
func TestStalledHandshake(t *testing.T) {
	a := newAuthority(t)
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	good := serve(t, nil, answerA, a.server, nil).addr
	p, _ := poolOf(t, func(o *Options) { o.TLS, o.Budget = a.client, time.Second },
		Endpoint{Transport: TLS, Addr: l.Addr().(*net.TCPAddr).AddrPort()}, Endpoint{Transport: TLS, Addr: good})
	if got := ask(t, p, nil); got != "NOERROR 1 tcp" {
		t.Errorf("got %q", got)
	}
}

func TestHTTPS(t *testing.T) {
	a := newAuthority(t)
	fault := func(code int, kind string, body []byte) func(http.ResponseWriter) bool {
		return func(w http.ResponseWriter) bool {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(code)
			_, _ = w.Write(body)
			return true
		}
	}
	tests := []struct {
		name   string
		method string
		fault  func(http.ResponseWriter) bool
		want   string // part of the outcome
	}{
		{"POST", http.MethodPost, nil, "NOERROR 1 tcp"},
		{"GET", http.MethodGet, nil, "NOERROR 1 tcp"},
		{"an error page", http.MethodPost, fault(http.StatusBadGateway, "text/html", []byte("<html>")), "status 502"},
		{"a redirect", http.MethodPost, func(w http.ResponseWriter) bool {
			w.Header().Set("Location", "https://192.0.2.1/dns-query")
			w.WriteHeader(http.StatusTemporaryRedirect)
			return true
		}, "status 307"},
		{"another type", http.MethodPost, fault(http.StatusOK, "text/html", []byte("<html>")), "content type"},
		{"rubbish", http.MethodPost, fault(http.StatusOK, "application/dns-message", []byte("rubbish")), "malformed reply"},
		{"without end", http.MethodPost, fault(http.StatusOK, "application/dns-message", bytes.Repeat([]byte{0}, 70000)), "over 65535 octets"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, _ := poolOf(t, func(o *Options) { o.TLS, o.DoHMethod, o.MaxAttempts = a.client, tt.method, 1 },
				Endpoint{Transport: HTTPS, Addr: serveHTTPS(t, a, answerA, tt.fault)})
			if got := ask(t, p, nil); !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestQUICConnection(t *testing.T) {
	a := newAuthority(t)
	addr, conns, drop := serveQUIC(t, a, answerA)
	p, rec := poolOf(t, func(o *Options) { o.TLS, o.MaxAttempts = a.client, 1 }, Endpoint{Transport: QUIC, Addr: addr})
	for range 5 {
		if got := ask(t, p, nil); got != "NOERROR 1 udp" {
			t.Fatal(got)
		}
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections for 5 queries", n)
	}
	drop() // the upstream ends it
	if got := ask(t, p, nil); got != "NOERROR 1 udp" {
		t.Errorf("after the connection ended: %q", got)
	}
	if n := conns.Load(); n != 2 {
		t.Errorf("%d connections after one ended", n)
	}
	if fresh, reused := rec.opened("quic"); fresh != 2 || reused < 4 {
		t.Errorf("%d new, %d reused", fresh, reused)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, p, nil); got != "NOERROR 1 udp" {
		t.Errorf("after Close: %q", got)
	}
}

func TestQUICWithoutReply(t *testing.T) {
	a := newAuthority(t)
	addr, _, _ := serveQUIC(t, a, func(*dns.Msg) *dns.Msg { return nil })
	p, _ := poolOf(t, func(o *Options) { o.TLS, o.MaxAttempts = a.client, 1 }, Endpoint{Transport: QUIC, Addr: addr})
	if got := ask(t, p, nil); !strings.Contains(got, "stream ended") {
		t.Errorf("got %q", got)
	}
}

func TestSourceAddress(t *testing.T) {
	var from atomic.Value
	pc, err := net.ListenPacket("udp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 2000)
		n, a, err := pc.ReadFrom(buf)
		if err != nil {
			return
		}
		from.Store(a.(*net.UDPAddr).IP.String())
		_, _ = pc.WriteTo(replyTo(t, buf[:n], nil), a)
	}()
	defer func() { pc.Close(); <-done }()
	p, _ := poolOf(t, func(o *Options) { o.SourceAddr = netip.MustParseAddr("127.0.0.7") }, plain(pc.LocalAddr().(*net.UDPAddr).AddrPort()))
	if got := ask(t, p, nil); got != "NOERROR 1 udp" {
		t.Fatal(got)
	}
	if from.Load() != "127.0.0.7" {
		t.Errorf("the query came from %v", from.Load())
	}
}

// The probe of a real upstream that went away and came back, over its own transport.
func TestProbeOverTheWire(t *testing.T) {
	var sick atomic.Bool
	s := serve(t, func(r *dns.Msg) *dns.Msg {
		if sick.Load() {
			return nil
		}
		return answerA(r)
	}, nil, nil, nil)
	p, rec := poolOf(t, func(o *Options) {
		o.MaxFails, o.ReadTimeout, o.ProbeTimeout, o.ProbeInterval, o.MaxAttempts = 1, 30*time.Millisecond, 30*time.Millisecond, 10*time.Millisecond, 1
	}, plain(s.addr))
	state := func(want State) {
		t.Helper()
		for end := time.Now().Add(5 * time.Second); p.Upstreams()[0].State != want; <-time.After(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("state %s, want %s", p.Upstreams()[0].State, want)
			}
		}
	}
	sick.Store(true)
	ask(t, p, nil)
	state(Down)
	if rec.probesFailed.Load() < 2 {
		t.Errorf("%d probes failed", rec.probesFailed.Load())
	}
	sick.Store(false)
	state(Up)
}

// Who floods a socket with guesses gets no further: it is given up, and TCP decides.
func TestTooManyForeignPackets(t *testing.T) {
	addr := rawUDP(t, func(query []byte) [][]byte {
		var all [][]byte
		for i := range maxForeign {
			p := append([]byte(nil), query...)
			p[0], p[1], p[2] = query[0]^byte(1+i%255), query[1], query[2]|0x80
			all = append(all, p)
		}
		return all
	})
	p, rec := poolOf(t, func(o *Options) { o.MaxAttempts = 1 }, plain(addr))
	began := time.Now()
	if got := ask(t, p, nil); !strings.Contains(got, "connection refused") {
		t.Errorf("got %q", got)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %s to give the socket up", took)
	}
	if fresh, _ := rec.opened("tcp"); fresh != 1 {
		t.Errorf("TCP was asked %d times", fresh)
	}
}
