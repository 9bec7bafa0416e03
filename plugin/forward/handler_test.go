package forward

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/metadata"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"
	"github.com/miekg/dns"

	"github.com/resolverd/resolverd/internal/answer"
	"github.com/resolverd/resolverd/internal/hostnet"
)

// answering returns an upstream that gives f's reply over UDP and TCP.
func answering(t *testing.T, f func(r *dns.Msg) *dns.Msg) string {
	t.Helper()
	s := dnstest.NewMultipleServer(func(w dns.ResponseWriter, r *dns.Msg) {
		if m := f(r); m != nil {
			_ = w.WriteMsg(m)
		}
	})
	t.Cleanup(s.Close)
	return s.Addr
}

func withA(addr string) func(*dns.Msg) *dns.Msg {
	return func(r *dns.Msg) *dns.Msg {
		m := new(dns.Msg).SetReply(r)
		m.Answer = []dns.RR{test.A(r.Question[0].Name + " 300 IN A " + addr)}
		return m
	}
}

func withRcode(code int) func(*dns.Msg) *dns.Msg {
	return func(r *dns.Msg) *dns.Msg { return new(dns.Msg).SetRcode(r, code) }
}

// closedPort returns an address where nothing listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.9:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// chain sets the Corefile snippet up as a server would and returns its first handler.
func chain(t *testing.T, corefile string) *Forward {
	t.Helper()
	c := caddy.NewTestController("dns", corefile)
	if err := setup(c); err != nil {
		t.Fatalf("setup: %v", err)
	}
	config := dnsserver.GetConfig(c)
	dnsserver.NewServer("", []*dnsserver.Config{config})
	h := config.Handler("forward").(*Forward)
	for f := h; f != nil; {
		f.pool.Start()
		f, _ = f.Next.(*Forward)
	}
	return h
}

func query(name string, qtype uint16) *dns.Msg {
	m := new(dns.Msg).SetQuestion(name, qtype)
	m.SetEdns0(1232, false)
	return m
}

// served is what the handler did with one query.
type served struct {
	code int
	msg  *dns.Msg
	err  error
}

func serve(h plugin.Handler, r *dns.Msg) served {
	rec := dnstest.NewRecorder(&test.ResponseWriter{})
	code, err := h.ServeDNS(context.Background(), rec, r)
	return served{code, rec.Msg, err}
}

// text says in one line what the client got.
func (s served) text() string {
	if s.msg == nil {
		return "nothing written, " + dns.RcodeToString[s.code]
	}
	out := dns.RcodeToString[s.msg.Rcode]
	for _, rr := range s.msg.Answer {
		if a, ok := rr.(*dns.A); ok {
			out += " " + a.A.String()
		}
	}
	if opt := s.msg.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok {
				out += fmt.Sprintf(" EDE %d", e.InfoCode)
			}
		}
	}
	return out
}

func TestServe(t *testing.T) {
	good := answering(t, withA("192.0.2.1"))
	other := answering(t, withA("192.0.2.2"))
	servfail := answering(t, withRcode(dns.RcodeServerFailure))
	refused := answering(t, withRcode(dns.RcodeRefused))
	nxdomain := answering(t, withRcode(dns.RcodeNameError))
	nodata := answering(t, withRcode(dns.RcodeSuccess))
	dead := closedPort(t)
	seq := " {\npolicy sequential\n}\n"

	tests := []struct {
		name     string
		corefile string
		query    *dns.Msg
		want     string
	}{
		{"one upstream", "forward . " + good, query("example.org.", dns.TypeA), "NOERROR 192.0.2.1"},
		{"zone not ours, no next", "forward example.net " + good, query("example.org.", dns.TypeA), "nothing written, SERVFAIL"},
		{"excepted", "forward . " + good + " {\nexcept Example.org\n}\n", query("www.example.org.", dns.TypeA), "nothing written, SERVFAIL"},
		{"not excepted", "forward . " + good + " {\nexcept example.org\n}\n", query("example.net.", dns.TypeA), "NOERROR 192.0.2.1"},
		{"the zone itself is never excepted", "forward example.org " + good + " {\nexcept example.org\n}\n", query("example.org.", dns.TypeA), "NOERROR 192.0.2.1"},
		{"dead, then good", "forward . " + dead + " " + good + seq, query("example.org.", dns.TypeA), "NOERROR 192.0.2.1"},
		{"SERVFAIL, then good", "forward . " + servfail + " " + good + seq, query("example.org.", dns.TypeA), "NOERROR 192.0.2.1"},
		{"REFUSED, then good", "forward . " + refused + " " + good + seq, query("example.org.", dns.TypeA), "NOERROR 192.0.2.1"},
		{"all SERVFAIL", "forward . " + servfail + seq, query("example.org.", dns.TypeA), "SERVFAIL EDE 0"},
		{"all refuse", "forward . " + refused + seq, query("example.org.", dns.TypeA), "REFUSED"},
		{"the last poor reply counts", "forward . " + servfail + " " + refused + seq, query("example.org.", dns.TypeA), "REFUSED"},
		{"failover none", "forward . " + servfail + " " + good + " {\npolicy sequential\nfailover none\n}\n", query("example.org.", dns.TypeA), "SERVFAIL EDE 0"},
		{"failover NXDOMAIN", "forward . " + nxdomain + " " + good + " {\npolicy sequential\nfailover NXDOMAIN\n}\n", query("example.org.", dns.TypeA), "NOERROR 192.0.2.1"},
		{"failover NXDOMAIN leaves SERVFAIL", "forward . " + servfail + " " + good + " {\npolicy sequential\nfailover NXDOMAIN\n}\n", query("example.org.", dns.TypeA), "SERVFAIL EDE 0"},
		{"nobody there", "forward . " + dead, query("example.org.", dns.TypeA), "SERVFAIL EDE 23"},
		{"nobody known", "forward . /nonexistent/resolv.conf", query("example.org.", dns.TypeA), "SERVFAIL EDE 22"},
		{"next NXDOMAIN", "forward . " + nxdomain + " {\nnext NXDOMAIN\n}\nforward . " + other, query("example.org.", dns.TypeA), "NOERROR 192.0.2.2"},
		{"next without another forward", "forward . " + nxdomain + " {\nnext NXDOMAIN\n}\n", query("example.org.", dns.TypeA), "NXDOMAIN"},
		{"next_on_nodata", "forward . " + nodata + " {\nnext_on_nodata\n}\nforward . " + other, query("example.org.", dns.TypeA), "NOERROR 192.0.2.2"},
		{"NODATA stays without it", "forward . " + nodata + "\nforward . " + other, query("example.org.", dns.TypeA), "NOERROR"},
		{"second stanza by zone", "forward example.net " + good + "\nforward example.org " + other, query("www.example.org.", dns.TypeA), "NOERROR 192.0.2.2"},
		{"AXFR is no question with one reply", "forward . " + good, query("example.org.", dns.TypeAXFR), "nothing written, NOTIMP"},
		{"UPDATE is not forwarded", "forward . " + good, new(dns.Msg).SetUpdate("example.org."), "nothing written, NOTIMP"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := serve(chain(t, tt.corefile), tt.query)
			if got.text() != tt.want {
				t.Errorf("got %q, want %q (error %v)", got.text(), tt.want, got.err)
			}
			if strings.HasSuffix(tt.want, "NOTIMP") && got.err != nil {
				t.Errorf("an error that anybody can have logged: %v", got.err)
			}
			if got.msg != nil && got.msg.Id != tt.query.Id {
				t.Errorf("id %d, want %d", got.msg.Id, tt.query.Id)
			}
		})
	}
}

// A failure that cost nothing is not cached: the file may name somebody a moment later.
// One that cost the clients' time is.
func TestWhatIsNotCached(t *testing.T) {
	for corefile, want := range map[string]bool{
		"forward . /nonexistent/resolv.conf":                     true,
		"forward . " + closedPort(t):                             false,
		"forward . " + answering(t, withA("192.0.2.1")):          false,
		"forward . " + answering(t, withRcode(dns.RcodeRefused)): false,
	} {
		var p answer.Policy
		if _, err := chain(t, corefile).ServeDNS(answer.WithPolicy(context.Background(), &p), dnstest.NewRecorder(&test.ResponseWriter{}), query("example.org.", dns.TypeA)); err != nil {
			t.Fatal(err)
		}
		if p != (answer.Policy{NoStore: want}) {
			t.Errorf("%s: the cache is told %+v", corefile, p)
		}
	}
}

func TestNoEDEWithoutEDNS(t *testing.T) {
	got := serve(chain(t, "forward . "+closedPort(t)), new(dns.Msg).SetQuestion("example.org.", dns.TypeA))
	if got.text() != "SERVFAIL" || got.msg.IsEdns0() != nil {
		t.Errorf("got %s", got.msg)
	}
}

func TestMaxConcurrent(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	slow := answering(t, func(r *dns.Msg) *dns.Msg {
		if r.Question[0].Qtype == dns.TypeNS {
			return withRcode(dns.RcodeSuccess)(r) // a probe of another test, whose upstream had this port
		}
		once.Do(func() { close(entered) })
		<-release
		return withA("192.0.2.1")(r)
	})
	h := chain(t, "forward . "+slow+" {\nmax_concurrent 1\n}\n")
	first := make(chan served)
	go func() { first <- serve(h, query("example.org.", dns.TypeA)) }()
	<-entered
	if got := serve(h, query("example.org.", dns.TypeA)).text(); got != "REFUSED EDE 0" {
		t.Errorf("the second got %q, want REFUSED", got)
	}
	close(release)
	if got := (<-first).text(); got != "NOERROR 192.0.2.1" {
		t.Errorf("the first got %q", got)
	}
}

// A chain leads on to any plugin, for its zones alone, and back where nobody answers.
func TestChain(t *testing.T) {
	nxdomain := answering(t, withRcode(dns.RcodeNameError))
	nodata := answering(t, withRcode(dns.RcodeSuccess))
	servfail := answering(t, withRcode(dns.RcodeServerFailure))
	good := answering(t, withA("192.0.2.1"))
	answers := plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
		return dns.RcodeSuccess, w.WriteMsg(withA("192.0.2.9")(r))
	})
	refuses := plugin.HandlerFunc(func(context.Context, dns.ResponseWriter, *dns.Msg) (int, error) { return dns.RcodeRefused, nil })
	tests := []struct {
		name, to, chain string
		next            plugin.Handler
		want            string
	}{
		{"in the zone", nxdomain, "NXDOMAIN example.org", answers, "NOERROR 192.0.2.9"},
		{"in another", nxdomain, "NXDOMAIN example.net", answers, "NXDOMAIN"},
		{"another RCODE", nxdomain, "NODATA example.org", answers, "NXDOMAIN"},
		{"no data", nodata, "NODATA example.org", answers, "NOERROR 192.0.2.9"},
		{"data", good, "NODATA example.org", answers, "NOERROR 192.0.2.1"},
		{"failure", servfail, "SERVFAIL", answers, "NOERROR 192.0.2.9"},
		{"nobody there", closedPort(t), "SERVFAIL", answers, "NOERROR 192.0.2.9"},
		{"no next plugin", nxdomain, "NXDOMAIN .", nil, "NXDOMAIN"},
		{"the next one has nothing", nxdomain, "NXDOMAIN .", refuses, "NXDOMAIN"},
	}
	for _, tt := range tests {
		for _, how := range []relaying{relayNone, relayAll} {
			t.Run(fmt.Sprintf("%s/%d", tt.name, how), func(t *testing.T) {
				h := chain(t, "forward . "+tt.to+" {\nchain "+tt.chain+"\n}\n")
				h.Next, h.relaying = tt.next, how
				w := new(packetWriter)
				code, err := h.ServeDNS(context.Background(), w, query("www.Example.org.", dns.TypeA))
				if got := (served{code, w.msg, err}).text(); got != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			})
		}
	}
}

func TestMetadataNamesTheUpstream(t *testing.T) {
	good := answering(t, withA("192.0.2.1"))
	h := chain(t, "forward . "+good)
	ctx := metadata.ContextWithMetadata(context.Background())
	if _, err := h.ServeDNS(ctx, dnstest.NewRecorder(&test.ResponseWriter{}), query("example.org.", dns.TypeA)); err != nil {
		t.Fatal(err)
	}
	f := metadata.ValueFunc(ctx, "forward/upstream")
	if f == nil || f() != good {
		t.Errorf("forward/upstream is not %s", good)
	}
}

func TestOwnListenerIsNotAsked(t *testing.T) {
	h := chain(t, "forward . 127.0.0.1:5399")
	h.own = listeners{Listeners: hostnet.NewListeners("5399", []string{"127.0.0.1"}, nil)}
	h.loops = h.own.leadsBack
	got := serve(h, query("example.org.", dns.TypeA))
	if got.text() != "SERVFAIL EDE 22" {
		t.Errorf("got %q", got.text())
	}
	if e := got.msg.IsEdns0().Option[0].(*dns.EDNS0_EDE); !strings.Contains(e.ExtraText, "this resolver itself") {
		t.Errorf("EDE says %q", e.ExtraText)
	}
}

func TestPoolIsShared(t *testing.T) {
	good := answering(t, withA("192.0.2.1"))
	a, b := chain(t, "forward . "+good), chain(t, "forward . "+good)
	if a.pool != b.pool {
		t.Error("equal stanzas have two pools: health would not outlive a reload")
	}
	if c := chain(t, "forward . "+good+" {\nread_timeout 1s\n}\n"); c.pool == a.pool {
		t.Error("different stanzas share a pool")
	}
}
