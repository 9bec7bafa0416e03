package cache

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"pgregory.net/rapid"
)

// drawnResponse draws a response such as upstreams give, good or odd.
func drawnResponse(t *rapid.T) *dns.Msg {
	names := []string{"www.example.", "WWW.example.", "a.example.", "b.example.", "example.", "other.", "."}
	name := func(label string) string { return rapid.SampledFrom(names).Draw(t, label) }
	ttl := func() uint32 {
		if rapid.IntRange(0, 15).Draw(t, "odd TTL") == 0 {
			return rapid.SampledFrom([]uint32{0, 1 << 31}).Draw(t, "ttl")
		}
		return rapid.SampledFrom([]uint32{1, 5, 60, 300, 7200}).Draw(t, "ttl")
	}
	header := func(rrtype uint16) dns.RR_Header {
		class := uint16(dns.ClassINET)
		if rapid.IntRange(0, 30).Draw(t, "class") == 0 {
			class = dns.ClassCHAOS
		}
		return dns.RR_Header{Name: name("owner"), Rrtype: rrtype, Class: class, Ttl: ttl()}
	}
	m := new(dns.Msg)
	m.Question = []dns.Question{{
		Name:  name("qname"),
		Qtype: rapid.SampledFrom([]uint16{dns.TypeA, dns.TypeTXT, dns.TypeCNAME, dns.TypeANY, dns.TypeSOA}).Draw(t, "qtype"), Qclass: dns.ClassINET,
	}}
	m.Response = rapid.IntRange(0, 30).Draw(t, "response") > 0
	m.Truncated = rapid.IntRange(0, 30).Draw(t, "truncated") == 0
	m.RecursionAvailable = true
	m.AuthenticatedData = rapid.Bool().Draw(t, "ad")
	m.Rcode = rapid.SampledFrom([]int{0, 0, 0, 3, 3, 2, 5}).Draw(t, "rcode")
	rr := func() dns.RR {
		switch rapid.IntRange(0, 4).Draw(t, "rr") {
		case 0, 1:
			return &dns.A{Hdr: header(dns.TypeA), A: net.IPv4(192, 0, 2, 1).To4()}
		case 2:
			return &dns.CNAME{Hdr: header(dns.TypeCNAME), Target: name("target")}
		case 3:
			return &dns.TXT{Hdr: header(dns.TypeTXT), Txt: []string{"x"}}
		}
		return &dns.SOA{Hdr: header(dns.TypeSOA), Ns: "ns.example.", Mbox: "h.example.", Minttl: ttl()}
	}
	if rapid.IntRange(0, 2).Draw(t, "ordered") > 0 {
		// What nearly all are: a chain in its order, then the answer or the zone's SOA.
		owner := m.Question[0].Name
		for range rapid.IntRange(0, 3).Draw(t, "links") {
			c := &dns.CNAME{Hdr: header(dns.TypeCNAME), Target: name("target")}
			c.Hdr.Name, owner = owner, c.Target
			m.Answer = append(m.Answer, c)
		}
		if rapid.Bool().Draw(t, "denial") {
			s := &dns.SOA{Hdr: header(dns.TypeSOA), Ns: "ns.example.", Mbox: "h.example.", Minttl: ttl()}
			m.Ns = append(m.Ns, s)
			return m
		}
		for range rapid.IntRange(0, 3).Draw(t, "answers") {
			a := &dns.A{Hdr: header(dns.TypeA), A: net.IPv4(192, 0, 2, 1).To4()}
			a.Hdr.Name = owner
			m.Answer = append(m.Answer, a)
		}
		return m
	}
	for range rapid.IntRange(0, 3).Draw(t, "answer") {
		m.Answer = append(m.Answer, rr())
	}
	for range rapid.IntRange(0, 2).Draw(t, "authority") {
		m.Ns = append(m.Ns, rr())
	}
	if rapid.IntRange(0, 5).Draw(t, "additional") == 0 {
		m.Extra = append(m.Extra, rr())
	}
	return m
}

// TestPrepareWireAgreesWithPrepare: what PrepareWire accepts is what Prepare makes of it.
func TestPrepareWireAgreesWithPrepare(t *testing.T) {
	taken := map[Kind]int{}
	compare := func(t *rapid.T) {
		m := drawnResponse(t)
		m.Compress = rapid.Bool().Draw(t, "compress")
		packet, err := m.Pack()
		if err != nil {
			return
		}
		terms := DefaultTerms()
		if rapid.Bool().Draw(t, "no minimum") {
			terms.MinSuccess, terms.MinDenial = 0, 0
		}
		if rapid.Bool().Draw(t, "bounds") {
			var err error
			if terms, err = terms.WithBounds([]Bound{{Zone: "example.", Type: dns.TypeA, Max: 100 * time.Second}, {Zone: ".", Min: 7 * time.Second, Max: 90 * time.Second}}); err != nil {
				t.Fatal(err)
			}
		}
		read := new(dns.Msg)
		if err := read.Unpack(packet); err != nil {
			return
		}
		before := string(packet)
		w, ok := PrepareWire(packet, terms)
		if !ok {
			if string(packet) != before {
				t.Fatalf("refused, and changed:\n%v", m)
			}
			return
		}
		p := Prepare(read, false, terms, time.Now())
		got := new(dns.Msg)
		if err := got.Unpack(w.Packet); err != nil {
			t.Fatal(err)
		}
		if p.Kind != w.Kind || p.Life != w.Life || p.Answers != w.Answers {
			t.Fatalf("%s %s answers %t, of a message %s %s %t\n%v", w.Kind, w.Life, w.Answers, p.Kind, p.Life, p.Answers, m)
		}
		// Prepare spells the owner names that are QNAME as the question does. Those that are
		// spelt out keep their spelling in a packet.
		if d := cmp.Diff(strings.ToLower(p.Msg.String()), strings.ToLower(got.String())); d != "" {
			t.Fatalf("message (-) and packet (+) differ:\n%s", d)
		}
		taken[w.Kind]++
	}
	rapid.Check(t, func(t *rapid.T) {
		for range 40 {
			compare(t)
		}
	})
	for _, k := range []Kind{Success, Nodata, Nxdomain} {
		if taken[k] == 0 {
			t.Errorf("no %s was accepted: %v", k, taken)
		}
	}
}

// TestPrepareWireTakes names what must not need a message.
func TestPrepareWireTakes(t *testing.T) {
	const soa = "example. 900 IN SOA ns.example. h.example. 1 2 3 4 60"
	long := []string{}
	for i := range 8 {
		long = append(long, fmt.Sprintf("n%d.example. 60 IN CNAME n%d.example.", i, i+1))
	}
	for _, c := range []struct {
		name          string
		qname         string
		rcode         int
		answer, authy []string
		want          Kind
		life          time.Duration
	}{
		{"an address", "www.example.", 0, []string{"www.example. 60 IN A 192.0.2.1"}, nil, Success, time.Minute},
		{"several", "www.example.", 0, []string{"www.example. 60 IN A 192.0.2.1", "www.example. 30 IN A 192.0.2.2"}, nil, Success, 30 * time.Second},
		{"behind aliases", "www.example.", 0, []string{"www.example. 60 IN CNAME c.other.", "c.other. 7200 IN CNAME d.other.", "d.other. 9 IN A 192.0.2.1"}, nil, Success, 9 * time.Second},
		{"behind eight", "n0.example.", 0, append(long, "n8.example. 60 IN A 192.0.2.1"), nil, Success, time.Minute},
		{"behind nine", "n0.example.", 0, append(long, "n8.example. 60 IN CNAME n9.example.", "n9.example. 60 IN A 192.0.2.1"), nil, Uncacheable, 0},
		{"a low TTL", "www.example.", 0, []string{"www.example. 1 IN A 192.0.2.1"}, nil, Success, 5 * time.Second},
		{"a TTL of 0", "www.example.", 0, []string{"www.example. 0 IN A 192.0.2.1"}, nil, Uncacheable, 0},
		{"a loop", "www.example.", 0, []string{"www.example. 60 IN CNAME a.example.", "a.example. 60 IN CNAME www.example."}, nil, Uncacheable, 0},
		{"no data", "www.example.", 0, nil, []string{soa}, Nodata, time.Minute},
		{"no name", "www.example.", 3, nil, []string{soa}, Nxdomain, time.Minute},
		{"no name behind an alias", "www.other.", 3, []string{"www.other. 60 IN CNAME a.example."}, []string{soa}, Nxdomain, time.Minute},
		{"another zone's denial", "www.other.", 3, nil, []string{soa}, Uncacheable, 0},
		{"a referral", "www.example.", 0, nil, []string{"example. 60 IN NS ns.example."}, Uncacheable, 0},
		{"another name", "www.example.", 0, []string{"a.example. 60 IN A 192.0.2.1"}, nil, Uncacheable, 0},
		{"a failure", "www.example.", 2, nil, nil, Uncacheable, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := new(dns.Msg).SetQuestion(c.qname, dns.TypeA)
			m.Response, m.Rcode, m.Compress = true, c.rcode, true
			for _, s := range c.answer {
				rr, err := dns.NewRR(s)
				if err != nil {
					t.Fatal(err)
				}
				m.Answer = append(m.Answer, rr)
			}
			for _, s := range c.authy {
				rr, err := dns.NewRR(s)
				if err != nil {
					t.Fatal(err)
				}
				m.Ns = append(m.Ns, rr)
			}
			p, err := m.Pack()
			if err != nil {
				t.Fatal(err)
			}
			w, ok := PrepareWire(p, DefaultTerms())
			if ok != (c.want != Uncacheable) || w.Kind != c.want || w.Life != c.life {
				t.Errorf("%t %s %s", ok, w.Kind, w.Life)
			}
		})
	}
}

func TestPrepareWireAllocatesNothing(t *testing.T) {
	m := new(dns.Msg).SetQuestion("www.example.", dns.TypeA)
	m.Response, m.Compress = true, true
	for _, s := range []string{"www.example. 60 IN CNAME a.example.", "a.example. 60 IN A 192.0.2.1"} {
		rr, _ := dns.NewRR(s)
		m.Answer = append(m.Answer, rr)
	}
	p, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() {
		if _, ok := PrepareWire(p, DefaultTerms()); !ok {
			t.Fatal("refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzPrepareWire looks for what it does not survive, and for what it accepts though the
// library cannot read it.
func FuzzPrepareWire(f *testing.F) {
	for _, s := range []string{"www.example. 60 IN A 192.0.2.1", "www.example. 60 IN CNAME a.example."} {
		m := new(dns.Msg).SetQuestion("www.example.", dns.TypeA)
		m.Response, m.Compress = true, true
		rr, _ := dns.NewRR(s)
		m.Answer = []dns.RR{rr}
		p, _ := m.Pack()
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		if _, err := index(p, nil); err != nil {
			return // the caller looked through it
		}
		w, ok := PrepareWire(p, DefaultTerms())
		if ok && (w.Life <= 0 || w.Kind == Uncacheable) {
			t.Fatalf("%+v", w)
		}
	})
}
