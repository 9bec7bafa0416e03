package forward

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

func TestHostPause(t *testing.T) {
	tests := []struct {
		ttl      time.Duration
		failures int
		want     time.Duration
	}{
		{time.Minute, 0, time.Minute},
		{0, 0, leastHostTTL},
		{48 * time.Hour, 0, mostHostTTL},
		{time.Minute, 1, 5 * time.Second},
		{time.Minute, 2, 10 * time.Second},
		{time.Minute, 4, 40 * time.Second},
		{time.Minute, 7, mostHostPause},
		{time.Minute, 1000, mostHostPause},
	}
	for _, tt := range tests {
		if got := hostPause(tt.ttl, tt.failures); got != tt.want {
			t.Errorf("TTL %s, %d failures: %s, want %s", tt.ttl, tt.failures, got, tt.want)
		}
	}
}

// zone is what a fake bootstrap knows of one host name.
type zone struct {
	mu      sync.Mutex // guards what follows
	a, aaaa []string
	ttl     uint32
	fail    bool // no answer
	fail6   bool // none to AAAA
	asked   int
}

func (z *zone) resolve(_ context.Context, m *dns.Msg) (*dns.Msg, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	q := m.Question[0]
	if q.Qtype == dns.TypeA {
		z.asked++
	}
	if z.fail || z.fail6 && q.Qtype == dns.TypeAAAA {
		return nil, errors.New("nobody answers")
	}
	addrs := z.a
	if q.Qtype == dns.TypeAAAA {
		addrs = z.aaaa
	}
	out := new(dns.Msg).SetReply(m)
	for _, a := range addrs {
		rr, err := dns.NewRR(fmt.Sprintf("%s %d IN %s %s", q.Name, z.ttl, dns.TypeToString[q.Qtype], a))
		if err != nil {
			return nil, err
		}
		out.Answer = append(out.Answer, rr)
	}
	return out, nil
}

// change changes the zone.
func (z *zone) change(f func()) {
	z.mu.Lock()
	defer z.mu.Unlock()
	f()
}

func TestHostIsLookedUpAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := &zone{a: []string{"192.0.2.1"}, aaaa: []string{"2001:db8::1"}, ttl: 60}
		o := Default()
		o.Sources = []Source{{Host: "ns.example.org.", Endpoint: Endpoint{Transport: TLS, Addr: netip.AddrPortFrom(netip.Addr{}, 853), ServerName: "x.example"}}}
		o.Hosts = map[string][]netip.Addr{"ns.example.org.": {netip.MustParseAddr("192.0.2.1")}}
		o.resolve = z.resolve
		o.connect = func(Endpoint) (transport, transport) { f := &fake{query: ok, probe: ok}; return f, f }
		p, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		p.Start()
		have := func(step, want string) {
			t.Helper()
			synctest.Wait()
			var got []string
			for _, s := range p.Upstreams() {
				got = append(got, s.Endpoint.String())
			}
			if strings.Join(got, " ") != want {
				t.Errorf("%s: %v, want %s", step, got, want)
			}
		}
		have("at the start", "tls://192.0.2.1:853%x.example")
		time.Sleep(leastHostTTL)
		have("after the first look-up", "tls://192.0.2.1:853%x.example tls://[2001:db8::1]:853%x.example")
		z.change(func() { z.a = []string{"192.0.2.3", "192.0.2.2"} })
		time.Sleep(59 * time.Second)
		have("before the TTL is over", "tls://192.0.2.1:853%x.example tls://[2001:db8::1]:853%x.example")
		time.Sleep(time.Second)
		have("after it", "tls://192.0.2.2:853%x.example tls://192.0.2.3:853%x.example tls://[2001:db8::1]:853%x.example")
		kept := p.ups.Load()
		z.change(func() { z.fail6, z.aaaa = true, nil })
		time.Sleep(time.Minute)
		have("one family cannot be had", "tls://192.0.2.2:853%x.example tls://192.0.2.3:853%x.example tls://[2001:db8::1]:853%x.example")
		z.change(func() { z.fail = true })
		time.Sleep(time.Minute)
		have("none can be had", "tls://192.0.2.2:853%x.example tls://192.0.2.3:853%x.example tls://[2001:db8::1]:853%x.example")
		if p.ups.Load() != kept {
			t.Error("the same upstreams were made anew")
		}
		z.change(func() { z.asked = 0 })
		time.Sleep(time.Hour)
		var n int
		if z.change(func() { n = z.asked }); n > 16 || n < 8 {
			t.Errorf("asked %d times in an hour without an answer", n)
		}
		z.change(func() { z.fail, z.fail6, z.a, z.ttl = false, false, nil, 5 })
		time.Sleep(mostHostPause)
		have("the name has no address", "tls://192.0.2.2:853%x.example tls://192.0.2.3:853%x.example tls://[2001:db8::1]:853%x.example")
		z.change(func() { z.a = []string{"192.0.2.9"} })
		time.Sleep(mostHostPause)
		have("it has one again", "tls://192.0.2.9:853%x.example")
	})
}

// The bootstrap is asked like any upstream.
func TestBootstrap(t *testing.T) {
	s := serve(t, func(r *dns.Msg) *dns.Msg {
		m := new(dns.Msg).SetReply(r)
		switch {
		case r.Question[0].Name == "gone.example.org.":
			m.Rcode = dns.RcodeNameError
		case r.Question[0].Qtype == dns.TypeA:
			return answerA(r)
		}
		return m
	}, nil, nil, nil)
	o := Default()
	o.Sources = []Source{{Host: "ns.example.org.", Endpoint: Endpoint{Addr: netip.AddrPortFrom(netip.Addr{}, 53)}}}
	o.Bootstrap = []Source{{Endpoint: plain(s.addr)}}
	p, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	addrs, ttl, err := p.lookup(t.Context(), "ns.example.org.", nil)
	if err != nil || len(addrs) != 1 || addrs[0] != netip.MustParseAddr("192.0.2.1") || ttl != time.Minute {
		t.Errorf("%v for %s, %v", addrs, ttl, err)
	}
	if addrs, _, err := p.lookup(t.Context(), "gone.example.org.", addrs); err == nil {
		t.Errorf("a name that is gone has %v", addrs)
	}
}
