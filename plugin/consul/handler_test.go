package consul

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"
	"github.com/miekg/dns"

	"github.com/resolverd/resolverd/forward"
	"github.com/resolverd/resolverd/internal/answer"
	"github.com/resolverd/resolverd/internal/hostnet"
)

// agent is a name server on loopback in Consul's place.
func agent(t *testing.T, f func(r *dns.Msg) *dns.Msg) string {
	t.Helper()
	s := dnstest.NewMultipleServer(func(w dns.ResponseWriter, r *dns.Msg) {
		if m := f(r); m != nil {
			_ = w.WriteMsg(m)
		}
	})
	t.Cleanup(s.Close)
	_, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", port)
}

func web(r *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetReply(r)
	m.Answer = []dns.RR{test.A(r.Question[0].Name + " 0 IN A 10.1.1.1")}
	return m
}

func chain(t *testing.T, corefile string) *Consul {
	t.Helper()
	c := caddy.NewTestController("dns", corefile)
	if err := setup(c); err != nil {
		t.Fatalf("setup: %v", err)
	}
	config := dnsserver.GetConfig(c)
	dnsserver.NewServer("", []*dnsserver.Config{config})
	h := config.Handler("consul").(*Consul)
	h.Next = test.NextHandler(dns.RcodeRefused, nil)
	return h
}

func query(name string) *dns.Msg {
	m := new(dns.Msg).SetQuestion(name, dns.TypeA)
	m.SetEdns0(1232, false)
	return m
}

// ask returns what the client gets, in one line, and what the cache above is told.
func ask(t *testing.T, h *Consul, r *dns.Msg) (string, answer.Policy) {
	t.Helper()
	var p answer.Policy
	rec := dnstest.NewRecorder(&test.ResponseWriter{})
	code, err := h.ServeDNS(answer.WithPolicy(context.Background(), &p), rec, r)
	if err != nil {
		return dns.RcodeToString[code] + " " + err.Error(), p
	}
	if rec.Msg == nil {
		return "passed on", p
	}
	out := dns.RcodeToString[rec.Msg.Rcode]
	for _, rr := range rec.Msg.Answer {
		out += fmt.Sprintf(" %s/%d", rr.(*dns.A).A, rr.Header().Ttl)
	}
	if opt := rec.Msg.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok {
				out += fmt.Sprintf(" (%d) %s", e.InfoCode, e.ExtraText)
			}
		}
	}
	return out, p
}

func TestZones(t *testing.T) {
	to := " {\nto " + agent(t, web) + "\n}"
	tests := []struct{ directive, name, want string }{
		{"consul", "web.service.consul.", "NOERROR 10.1.1.1/0"},
		{"consul", "WEB.Service.Consul.", "NOERROR 10.1.1.1/0"},
		{"consul", "n1.node.consul.", "passed on"},
		{"consul", "example.org.", "passed on"},
		{"consul all", "n1.node.consul.", "NOERROR 10.1.1.1/0"},
		{"consul node.consul", "web.service.consul.", "passed on"},
	}
	for _, tt := range tests {
		t.Run(tt.directive+" "+tt.name, func(t *testing.T) {
			got, p := ask(t, chain(t, tt.directive+to), query(tt.name))
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if ours := got != "passed on"; p.NoMinimum != ours || p.NoStale != ours || p.NoStore {
				t.Errorf("the cache is told %+v", p)
			}
		})
	}
}

func TestServfailOfConsulIsExplainedAndNotKept(t *testing.T) {
	at := agent(t, func(r *dns.Msg) *dns.Msg { return new(dns.Msg).SetRcode(r, dns.RcodeServerFailure) })
	got, p := ask(t, chain(t, "consul {\nto "+at+"\n}"), query("web.service.consul."))
	if want := "SERVFAIL (0) consul at " + at + " answered SERVFAIL"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !p.NoStore {
		t.Error("the cache may keep it")
	}
}

func TestAway(t *testing.T) {
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	silent := l.LocalAddr().String()
	defer l.Close()
	gone, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := gone.LocalAddr().String()
	gone.Close()

	tests := []struct{ name, at, why string }{
		{"nothing listens", closed, "connection refused"},
		{"no reply", silent, "timeout"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := chain(t, "consul {\nto "+tt.at+"\ntimeout 50ms\n}")
			want := "SERVFAIL (22) consul at " + tt.at + " does not answer: " + tt.why
			for i := range 3 {
				got, p := ask(t, h, query("web.service.consul."))
				if got != want {
					t.Fatalf("query %d: got %q, want %q", i, got, want)
				}
				if !p.NoStore {
					t.Fatal("the cache may keep it")
				}
			}
			// Now it is known: nobody waits for it any more.
			if s := h.pool.Upstreams()[0].State; s != forward.Down {
				t.Fatalf("agent is %s after three failures", s)
			}
			began := time.Now()
			for range 100 {
				if got, _ := ask(t, h, query("web.service.consul.")); got != want {
					t.Fatalf("got %q, want %q", got, want)
				}
			}
			if took := time.Since(began); took > time.Second {
				t.Errorf("100 queries to an agent that is away took %s", took)
			}
		})
	}
}

func TestBack(t *testing.T) {
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.LocalAddr().String()
	l.Close()
	h := chain(t, "consul {\nto "+at+"\ntimeout 50ms\n}")
	for range 4 {
		ask(t, h, query("web.service.consul."))
	}
	l, err = net.ListenPacket("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	s := &dns.Server{PacketConn: l, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) { _ = w.WriteMsg(web(r)) })}
	go func() { _ = s.ActivateAndServe() }()
	defer func() { _ = s.Shutdown() }()
	for end := time.Now().Add(5 * time.Second); ; {
		got, _ := ask(t, h, query("web.service.consul."))
		if got == "NOERROR 10.1.1.1/0" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("still %q after Consul came back", got)
		}
		<-time.After(20 * time.Millisecond)
	}
}

func TestBoundedConcurrency(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	at := agent(t, func(r *dns.Msg) *dns.Msg {
		once.Do(func() { close(entered) })
		<-release
		return web(r)
	})
	h := chain(t, "consul {\nto "+at+"\nmax_concurrent 1\n}")
	first := make(chan string)
	go func() {
		got, _ := ask(t, h, query("web.service.consul."))
		first <- got
	}()
	<-entered
	if got, _ := ask(t, h, query("db.service.consul.")); got != "SERVFAIL (22) too many queries under way" {
		t.Errorf("the second got %q", got)
	}
	close(release)
	if got := <-first; got != "NOERROR 10.1.1.1/0" {
		t.Errorf("the first got %q", got)
	}
}

func TestWholeAnswerOverLoopback(t *testing.T) {
	var asked *dns.Msg
	at := agent(t, func(r *dns.Msg) *dns.Msg {
		asked = r
		m := new(dns.Msg).SetReply(r)
		for i := range 2000 {
			m.Answer = append(m.Answer, test.A(fmt.Sprintf("%s 0 IN A 10.2.%d.%d", r.Question[0].Name, i/250, i%250)))
		}
		m.Compress = true
		return m
	})
	got, _ := ask(t, chain(t, "consul {\nto "+at+"\n}"), query("web.service.consul."))
	if n := strings.Count(got, "10.2."); n != 2000 {
		t.Errorf("%d of 2000 addresses", n)
	}
	if opt := asked.IsEdns0(); opt == nil || opt.UDPSize() != loopbackSize {
		t.Errorf("the agent was asked with %v", opt)
	}
}

func TestAddressesComeFirst(t *testing.T) {
	at := agent(t, func(r *dns.Msg) *dns.Msg {
		m := new(dns.Msg).SetReply(r)
		m.SetEdns0(4096, false)
		for i := range 3 {
			m.Answer = append(m.Answer, test.SRV(fmt.Sprintf("%s 0 IN SRV 1 1 80 n%d.node.consul.", r.Question[0].Name, i)))
			m.Extra = append(m.Extra, test.A(fmt.Sprintf("n%d.node.consul. 0 IN A 10.1.1.%d", i, i)),
				test.TXT(fmt.Sprintf("n%d.node.consul. 0 IN TXT \"consul-network-segment=\"", i)))
		}
		return m
	})
	h := chain(t, "consul {\nto "+at+"\n}")
	rec := dnstest.NewRecorder(&test.ResponseWriter{})
	r := new(dns.Msg).SetQuestion("_web._tcp.service.consul.", dns.TypeSRV)
	r.SetEdns0(4096, false)
	if _, err := h.ServeDNS(context.Background(), rec, r); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, rr := range rec.Msg.Extra {
		got = append(got, dns.TypeToString[rr.Header().Rrtype])
	}
	if s := strings.Join(got, " "); s != "A A A TXT TXT TXT OPT" || rec.Msg.Extra[2].Header().Name != "n2.node.consul." {
		t.Errorf("ADDITIONAL is %s:\n%s", s, rec.Msg)
	}
}

func TestOwnListener(t *testing.T) {
	h := chain(t, "consul {\nto 127.0.0.1:5398\n}")
	h.own = hostnet.NewListeners("5398", []string{"127.0.0.1"}, nil)
	if got, _ := ask(t, h, query("web.service.consul.")); got != "SERVFAIL (22) consul's address is a listener of this resolver" {
		t.Errorf("got %q", got)
	}
}
