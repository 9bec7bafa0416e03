package cache

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"
	"github.com/miekg/dns"
	"pgregory.net/rapid"
)

// from returns a query for an address with the subnet, and "" is none.
func from(subnet string) *dns.Msg {
	m := ask("www.example.org.", dns.TypeA)
	if subnet == "" {
		return m
	}
	m.SetEdns0(1232, false)
	p := netip.MustParsePrefix(subnet)
	e := &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: uint8(p.Bits()), Address: p.Addr().AsSlice()}
	if p.Addr().Is6() {
		e.Family = 2
	}
	m.IsEdns0().Option = []dns.EDNS0{e}
	return m
}

func optionOf(m *dns.Msg) *dns.EDNS0_SUBNET {
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_SUBNET); ok {
				return e
			}
		}
	}
	return nil
}

// tailors answers by the client's subnet: the text names the prefix of so many bits, which
// is the scope; below 0 the response has no option.
func tailors(bits int) func(context.Context, dns.ResponseWriter, *dns.Msg) (int, error) {
	return func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
		m := new(dns.Msg).SetReply(r)
		who := "nobody"
		if e := optionOf(r); e != nil {
			a, _ := netip.AddrFromSlice(e.Address)
			if p, err := a.Unmap().Prefix(max(min(bits, int(e.SourceNetmask)), 0)); err == nil && e.SourceNetmask > 0 {
				who = p.String()
			}
			if bits >= 0 {
				o := *e
				o.SourceScope = uint8(bits)
				m.SetEdns0(1232, false)
				m.IsEdns0().Option = []dns.EDNS0{&o}
			}
		}
		m.Answer = []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: r.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 300}, Txt: []string{who}}}
		m.Answer[0].Header().Rrtype = dns.TypeTXT
		return dns.RcodeSuccess, w.WriteMsg(m)
	}
}

// told asks for the text and returns it, and the option of the response.
func told(t *rapid.T, tt *testing.T, h *Handler, subnet string) (string, *dns.EDNS0_SUBNET) {
	r := from(subnet)
	r.Question[0].Qtype = dns.TypeTXT
	rec := dnstest.NewRecorder(&test.ResponseWriter{})
	if _, err := h.ServeDNS(context.Background(), rec, r); err != nil {
		if t != nil {
			t.Fatal(err)
		}
		tt.Fatal(err)
	}
	return rec.Msg.Answer[0].(*dns.TXT).Txt[0], optionOf(rec.Msg)
}

// TestSubnet asks in turn, and says who is asked for anew (RFC 7871, section 7.3).
func TestSubnet(t *testing.T) {
	type step struct {
		subnet string
		asked  bool   // the source
		text   string // what came
		scope  int
	}
	for name, c := range map[string]struct {
		bits  int
		steps []step
	}{
		"as long as asked": {24, []step{
			{"192.0.2.0/24", true, "192.0.2.0/24", 24}, {"192.0.2.0/24", false, "192.0.2.0/24", 24},
			{"198.51.100.0/24", true, "198.51.100.0/24", 24}, {"192.0.2.0/24", false, "192.0.2.0/24", 24},
			{"", true, "nobody", -1}, {"", false, "nobody", -1},
			{"192.0.2.0/25", true, "192.0.2.0/24", 24}, {"192.0.2.0/25", true, "192.0.2.0/24", 24}, // passes by
			{"192.0.0.0/16", true, "192.0.0.0/16", 16}, {"192.0.2.0/24", false, "192.0.2.0/24", 24},
		}},
		"shorter": {16, []step{
			{"192.0.2.0/24", true, "192.0.0.0/16", 16}, {"192.0.3.0/24", false, "192.0.0.0/16", 16},
			{"192.1.3.0/24", true, "192.1.0.0/16", 16}, {"192.0.0.0/12", true, "192.0.0.0/12", 12},
			{"192.0.2.0/24", false, "192.0.0.0/16", 16},
		}},
		"longer counts as asked": {32, []step{
			{"192.0.2.0/24", true, "192.0.2.0/24", 24}, {"192.0.2.0/24", false, "192.0.2.0/24", 24}, {"192.0.3.0/24", true, "192.0.3.0/24", 24},
		}},
		"for all": {0, []step{
			{"192.0.2.0/24", true, "0.0.0.0/0", 0}, {"198.51.100.0/24", false, "0.0.0.0/0", 0},
			{"2001:db8::/56", true, "::/0", 0}, {"2001:db8:1::/48", false, "::/0", 0},
			{"", true, "nobody", -1}, {"192.0.2.0/24", false, "0.0.0.0/0", 0},
		}},
		"without the option": {-1, []step{
			{"192.0.2.0/24", true, "0.0.0.0/0", 0}, {"198.51.100.0/24", false, "0.0.0.0/0", 0}, {"", true, "nobody", -1},
		}},
		"no address wanted": {24, []step{
			{"192.0.2.0/24", true, "192.0.2.0/24", 24}, {"0.0.0.0/0", true, "nobody", 0}, {"0.0.0.0/0", false, "nobody", 0},
			{"192.0.3.0/24", true, "192.0.3.0/24", 24}, {"", true, "nobody", -1},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			h, s := handler(t, defaults())
			s.set(tailors(c.bits))
			for i, st := range c.steps {
				before := s.calls.Load()
				text, o := told(nil, t, h, st.subnet)
				if asked := s.calls.Load() > before; asked != st.asked || text != st.text {
					t.Errorf("step %d, %q: asked %t, %s", i, st.subnet, asked, text)
				}
				switch {
				case st.scope < 0 && o != nil:
					t.Errorf("step %d: an option that was not asked for", i)
				case st.scope >= 0 && (o == nil || int(o.SourceScope) != st.scope || !o.Address.Equal(optionOf(from(st.subnet)).Address) || o.SourceNetmask != optionOf(from(st.subnet)).SourceNetmask):
					t.Errorf("step %d, %q: the option is %v", i, st.subnet, o)
				}
			}
		})
	}
}

// A denial is for all who name a subnet (section 7.4), and for nobody else.
func TestSubnetDenial(t *testing.T) {
	h, s := handler(t, defaults())
	s.set(says(dns.RcodeNameError, "example.org. 300 IN SOA ns.example.org. h.example.org. 1 2 3 4 60"))
	for i, c := range []struct {
		subnet string
		calls  int64
	}{{"192.0.2.0/24", 1}, {"198.51.100.0/24", 1}, {"", 2}, {"", 2}} {
		rec := dnstest.NewRecorder(&test.ResponseWriter{})
		if _, err := h.ServeDNS(context.Background(), rec, from(c.subnet)); err != nil || rec.Msg.Rcode != dns.RcodeNameError {
			t.Fatalf("%v %v", rec.Msg, err)
		}
		if n := s.calls.Load(); n != c.calls {
			t.Errorf("step %d: asked %d times", i, n)
		}
	}
	// What is flushed by name is flushed for every subnet.
	if n, err := h.store.FlushName("www.example.org."); n != 2 || err != nil {
		t.Errorf("%d dropped, %v", n, err)
	}
}

func TestSubnetMalformed(t *testing.T) {
	for name, e := range map[string]*dns.EDNS0_SUBNET{
		"a scope":               {Family: 1, SourceNetmask: 24, SourceScope: 24, Address: net.IPv4(192, 0, 2, 0)},
		"bits behind it":        {Family: 1, SourceNetmask: 16, Address: net.IPv4(192, 0, 2, 0)},
		"another family":        {Family: 2, SourceNetmask: 24, Address: net.IPv4(192, 0, 2, 0)},
		"bits without a prefix": {Family: 1, SourceNetmask: 0, Address: net.IPv4(192, 0, 2, 0)},
		"too long":              {Family: 1, SourceNetmask: 33, Address: net.IPv4(192, 0, 2, 0)},
	} {
		h, s := handler(t, defaults())
		s.set(tailors(24))
		r := ask("www.example.org.", dns.TypeA)
		r.SetEdns0(1232, false)
		e.Code = dns.EDNS0SUBNET
		r.IsEdns0().Option = []dns.EDNS0{e}
		rcode, err := h.ServeDNS(context.Background(), dnstest.NewRecorder(&test.ResponseWriter{}), r)
		if rcode != dns.RcodeFormatError || err != nil || s.calls.Load() > 0 {
			t.Errorf("%s: %s %v, asked %d times", name, dns.RcodeToString[rcode], err, s.calls.Load())
		}
	}
}

// TestSubnetModel: whatever was asked before, an answer names a prefix that the client is
// in, or nobody where none was named.
func TestSubnetModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h, s := handler(t, defaults())
		for range 40 {
			s.set(tailors(rapid.IntRange(-1, 40).Draw(rt, "scope")))
			subnet := ""
			if rapid.IntRange(0, 4).Draw(rt, "option") > 0 {
				bits := rapid.IntRange(0, 24).Draw(rt, "source")
				a := netip.AddrFrom4([4]byte{byte(rapid.IntRange(0, 3).Draw(rt, "a")), byte(rapid.IntRange(0, 3).Draw(rt, "b") * 85), byte(rapid.IntRange(0, 3).Draw(rt, "c") * 85), 0})
				if rapid.IntRange(0, 3).Draw(rt, "family") == 0 {
					a = netip.MustParseAddr(fmt.Sprintf("2001:db8:%x::", rapid.IntRange(0, 3).Draw(rt, "d")))
					bits *= 2
				}
				p, _ := a.Prefix(bits)
				subnet = p.String()
			}
			text, _ := told(rt, t, h, subnet)
			switch p, err := netip.ParsePrefix(subnet); {
			case err != nil || p.Bits() == 0:
				if text != "nobody" {
					rt.Fatalf("%q is told of %s", subnet, text)
				}
			default:
				if got, err := netip.ParsePrefix(text); err != nil || !got.Contains(p.Addr()) || got.Bits() > p.Bits() {
					rt.Fatalf("%q is told of %s", subnet, text)
				}
			}
		}
	})
}
