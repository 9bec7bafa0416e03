package fastpath

import (
	"fmt"
	"math"
	"net"
	"testing"

	"github.com/miekg/dns"
)

// addressReply packs a reply with the addresses 192.0.2.0 and on, or 2001:db8::0 and on.
func addressReply(t testing.TB, n int, qtype uint16) []byte {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion("web.service.internal.", qtype)
	m.Response = true
	for i := range n {
		h := dns.RR_Header{Name: "web.service.internal.", Rrtype: qtype, Class: dns.ClassINET, Ttl: 5}
		if qtype == dns.TypeA {
			m.Answer = append(m.Answer, &dns.A{Hdr: h, A: net.IPv4(192, 0, 2, byte(i)).To4()})
		} else {
			ip := net.ParseIP("2001:db8::")
			ip[15] = byte(i)
			m.Answer = append(m.Answer, &dns.AAAA{Hdr: h, AAAA: ip})
		}
	}
	m.SetEdns0(1232, false)
	p, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestOrderByWeight compares how often each order comes with its probability: the first
// is drawn by weight, then the first of those left.
func TestOrderByWeight(t *testing.T) {
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		t.Run(dns.Type(qtype).String(), func(t *testing.T) {
			weights := []uint32{1, 2, 5}
			packet := addressReply(t, len(weights), qtype)
			o := orderOf(packet, weights)
			if o == nil {
				t.Fatal("no order")
			}
			const draws = 80_000
			seen := map[string]float64{}
			buf := make([]byte, len(packet))
			for range draws {
				copy(buf, packet)
				o.apply(buf)
				var m dns.Msg
				if err := m.Unpack(buf); err != nil {
					t.Fatal(err)
				}
				key := ""
				for _, rr := range m.Answer {
					switch rr := rr.(type) {
					case *dns.A:
						key += fmt.Sprint(rr.A[3])
					case *dns.AAAA:
						key += fmt.Sprint(rr.AAAA[15])
					}
				}
				seen[key]++
			}
			chi := 0.0
			for _, p := range [][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
				w := func(i int) float64 { return float64(weights[p[i]]) }
				want := draws * w(0) / 8 * w(1) / (8 - w(0))
				got := seen[fmt.Sprintf("%d%d%d", p[0], p[1], p[2])]
				chi += (got - want) * (got - want) / want
			}
			// 5 degrees of freedom: above 30 once in 70,000 runs.
			if chi > 30 || math.IsNaN(chi) {
				t.Errorf("chi-square %.1f: %v", chi, seen)
			}
		})
	}
}

func TestOrderRefuses(t *testing.T) {
	p := addressReply(t, 3, dns.TypeA)
	other := append([]byte(nil), p...)
	start := skip(p, headerLen) + 4
	name := skip(p, start)
	other[name+14+name-start+7]++ // the second TTL
	for name, c := range map[string]struct {
		packet  []byte
		weights []uint32
	}{
		"fewer weights":   {p, []uint32{1, 1}},
		"more weights":    {p, []uint32{1, 1, 1, 1}},
		"a weight of 0":   {p, []uint32{1, 0, 1}},
		"no weights":      {p, nil},
		"one address":     {addressReply(t, 1, dns.TypeA), []uint32{1}},
		"too many":        {addressReply(t, maxOrder+1, dns.TypeA), make([]uint32, maxOrder+1)},
		"another TTL":     {other, []uint32{1, 1, 1}},
		"cut in its RRs":  {p[:len(p)-20], []uint32{1, 1, 1}},
		"cut in its name": {p[:start+3], []uint32{1, 1, 1}},
	} {
		if orderOf(c.packet, c.weights) != nil {
			t.Errorf("%s: an order", name)
		}
	}
	if orderOf(p, []uint32{1, 1, 1}) == nil {
		t.Error("no order where there is one")
	}
}

func TestOrderAllocatesNothing(t *testing.T) {
	p := addressReply(t, 3, dns.TypeA)
	o := orderOf(p, []uint32{1, 2, 3})
	if n := testing.AllocsPerRun(100, func() { o.apply(p) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
