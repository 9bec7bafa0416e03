package names_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"github.com/resolverd/resolverd/registry"
	"github.com/resolverd/resolverd/registry/names"
	"github.com/resolverd/resolverd/registry/names/scene"
)

// many is a service of n instances, each with an address of its own.
func many(n int) *registry.View {
	var b strings.Builder
	b.WriteString("node n1 10.0.0.1\n")
	for i := range n {
		fmt.Fprintf(&b, "instance n1/w%04d web 10.%d.%d.%d:80\n", i, 1+i>>16, i>>8&255, i&255)
	}
	return scene.New(b.String())
}

// failer is a *testing.T or a *rapid.T.
type failer interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// reply is what a client with this much room gets, with an OPT as the server adds it.
func reply(t failer, z *names.Zone, s *registry.Snapshot, name string, qtype uint16, size int, opt bool) *dns.Msg {
	t.Helper()
	q, ok := z.Parse(name)
	if !ok {
		t.Fatalf("%s is not below %s", name, z.Origin)
	}
	a := z.Answer(s, q, names.Query{Name: name, Type: qtype, Rand: names.Global, Limit: names.MaxRRs(size)})
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	m.Response = true
	if a.Status == names.NoName {
		m.Rcode = dns.RcodeNameError
	}
	m.Answer, m.Ns, m.Extra = a.Answer, a.Authority, a.Additional
	if opt {
		m.SetEdns0(uint16(size), false)
	}
	names.Fit(m, size)
	wire, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if len(wire) > max(size, 512) {
		t.Fatalf("%s: %d octets for a client that takes %d", name, len(wire), size)
	}
	got := new(dns.Msg)
	if err := got.Unpack(wire); err != nil {
		t.Fatal(err)
	}
	return got
}

// TestSRVLayout is the HAProxy contract on the wire: one address an SRV, in the same
// order, its owner the SRV's target; then the OPT, and nothing else.
func TestSRVLayout(t *testing.T) {
	z := mustZone(t, "internal.")
	for _, n := range []int{1, 3, 50} {
		m := reply(t, z, many(n).Load(), "web.service.internal.", dns.TypeSRV, 8192, true)
		if len(m.Answer) != n || len(m.Extra) != n+1 || len(m.Ns) != 0 || m.Truncated {
			t.Fatalf("%d instances: %d answers, %d additional, %d authority, tc %v", n, len(m.Answer), len(m.Extra), len(m.Ns), m.Truncated)
		}
		targets := map[string]bool{}
		for i, rr := range m.Answer {
			srv := rr.(*dns.SRV)
			if a, ok := m.Extra[i].(*dns.A); !ok || a.Hdr.Name != srv.Target || a.Hdr.Ttl != srv.Hdr.Ttl {
				t.Errorf("SRV %d has target %s, ADDITIONAL has %v", i, srv.Target, m.Extra[i])
			}
			targets[srv.Target] = true
		}
		if len(targets) != n {
			t.Errorf("%d targets for %d instances", len(targets), n)
		}
		if _, ok := m.Extra[n].(*dns.OPT); !ok {
			t.Errorf("the last RR is %v", m.Extra[n])
		}
	}
}

func TestSRVOrderIsStable(t *testing.T) {
	z := mustZone(t, "internal.")
	v := many(20)
	want := fmt.Sprint(reply(t, z, v.Load(), "web.service.internal.", dns.TypeSRV, 65535, true).Answer)
	for range 20 {
		if got := fmt.Sprint(reply(t, z, v.Load(), "web.service.internal.", dns.TypeSRV, 65535, true).Answer); got != want {
			t.Fatalf("got %s\nwant %s", got, want)
		}
	}
}

func TestFit(t *testing.T) {
	z := mustZone(t, "internal.")
	tests := []struct {
		n     int
		qtype uint16
		size  int
		opt   bool
		tc    bool
	}{
		{3, dns.TypeSRV, 512, false, false},
		{5, dns.TypeSRV, 512, false, false}, // ADDITIONAL is cut, ANSWER is whole
		{50, dns.TypeSRV, 512, false, true},
		{50, dns.TypeSRV, 512, true, true},
		{50, dns.TypeSRV, 1232, true, true},
		{50, dns.TypeSRV, 4096, true, false},
		{50, dns.TypeSRV, 8192, true, false},
		{200, dns.TypeSRV, 8192, true, true},
		{20, dns.TypeA, 512, false, false},
		{100, dns.TypeA, 512, false, true},
		{100, dns.TypeA, 1232, true, true},
		{5000, dns.TypeA, 65535, true, true},
		{4000, dns.TypeA, 65535, true, false},
		{5000, dns.TypeSRV, 65535, true, true},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%d %s in %d opt=%v", tt.n, dns.TypeToString[tt.qtype], tt.size, tt.opt), func(t *testing.T) {
			m := reply(t, z, many(tt.n).Load(), "web.service.internal.", tt.qtype, tt.size, tt.opt)
			if m.Truncated != tt.tc || tt.tc == (len(m.Answer) == tt.n) || len(m.Answer) == 0 {
				t.Errorf("tc %v with %d of %d answers", m.Truncated, len(m.Answer), tt.n)
			}
			addrs := len(m.Extra)
			if tt.opt {
				addrs--
				if m.Extra[addrs].Header().Rrtype != dns.TypeOPT {
					t.Error("the OPT is not last")
				}
			}
			if tt.tc && addrs > 0 {
				t.Errorf("ANSWER was cut before ADDITIONAL: %d left", addrs)
			}
			for i := range addrs {
				if m.Extra[i].Header().Name != m.Answer[i].(*dns.SRV).Target {
					t.Errorf("address %d is %s", i, m.Extra[i].Header().Name)
				}
			}
		})
	}
}

// TestFitCutsNoMoreThanItMust: one RR more would not have fitted.
func TestFitCutsNoMoreThanItMust(t *testing.T) {
	z := mustZone(t, "internal.")
	s := many(60).Load()
	q, _ := z.Parse("web.service.internal.")
	for size := 512; size < 5000; size += 37 {
		a := z.Answer(s, q, names.Query{Name: "web.service.internal.", Type: dns.TypeSRV})
		m := new(dns.Msg)
		m.SetQuestion("web.service.internal.", dns.TypeSRV)
		m.Answer, m.Extra = a.Answer, a.Additional
		names.Fit(m, size)
		n, x := len(m.Answer), len(m.Extra)
		if m.Len() > size {
			t.Fatalf("%d octets in %d", m.Len(), size)
		}
		if n < 60 {
			m.Answer = a.Answer[:n+1]
		} else if x < 60 {
			m.Extra = a.Additional[:x+1]
		}
		if (n < 60 || x < 60) && m.Len() <= size {
			t.Fatalf("at %d octets %d and %d RRs, one more is %d", size, n, x, m.Len())
		}
	}
}

func TestLimit(t *testing.T) {
	edns := func(size uint16) *dns.Msg {
		m := new(dns.Msg)
		m.SetQuestion("a.", dns.TypeA)
		if size > 0 {
			m.SetEdns0(size, false)
		}
		return m
	}
	tests := []struct {
		announced        uint16
		stream, loopback bool
		want             int
	}{
		{0, false, false, 512},
		{0, false, true, 512},
		{100, false, true, 512},
		{1232, false, false, 1232},
		{4096, false, false, 1232},
		{600, false, false, 600},
		{8192, false, true, 8192},
		{65535, false, true, 65507},
		{512, true, false, 65535},
	}
	for _, tt := range tests {
		if got := names.Limit(edns(tt.announced), tt.stream, tt.loopback); got != tt.want {
			t.Errorf("%+v: got %d", tt, got)
		}
	}
}
