package fastpath

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

func TestAppendSlip(t *testing.T) {
	rr := func(s string) dns.RR {
		r, err := dns.NewRR(s)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for name, change := range map[string]func(*dns.Msg){
		"an answer": func(m *dns.Msg) { m.Answer = []dns.RR{rr("a.test. 60 IN A 192.0.2.1")} },
		"a denial": func(m *dns.Msg) {
			m.Rcode, m.Ns = dns.RcodeNameError, []dns.RR{rr("test. 60 IN SOA a.test. b.test. 1 2 3 4 5")}
		},
		"every bit": func(m *dns.Msg) {
			m.Authoritative, m.AuthenticatedData, m.CheckingDisabled, m.RecursionAvailable = true, true, true, true
		},
		"nothing in it": func(*dns.Msg) {},
		"an OPT":        func(m *dns.Msg) { m.SetEdns0(1232, true) },
		"an OPT's options": func(m *dns.Msg) {
			m.Answer = []dns.RR{rr("a.test. 60 IN CNAME b.test."), rr("b.test. 60 IN A 192.0.2.1")}
			m.SetEdns0(512, false)
			m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_EDE{InfoCode: 3, ExtraText: "stale"}}
			m.Extra = append([]dns.RR{rr("b.test. 60 IN AAAA 2001:db8::29")}, m.Extra...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := new(dns.Msg).SetQuestion("a.test.", dns.TypeA)
			m.Response, m.Compress = true, true
			change(m)
			p := pack(t, m)
			kept := bytes.Clone(p)
			got := new(dns.Msg)
			slip := AppendSlip([]byte("before"), p)
			if err := got.Unpack(slip[6:]); err != nil || !bytes.Equal(p, kept) || string(slip[:6]) != "before" {
				t.Fatalf("%x: %v", slip, err)
			}
			want := &dns.Msg{MsgHdr: m.MsgHdr, Question: m.Question}
			want.Truncated, want.Authoritative, want.AuthenticatedData = true, false, false
			if o := m.IsEdns0(); o != nil {
				want.SetEdns0(o.UDPSize(), o.Do())
			}
			if d := cmp.Diff(want.String(), got.String()); d != "" {
				t.Error(d)
			}
			if n := len(pack(t, want)); n != len(slip)-6 {
				t.Errorf("%d octets, want %d", len(slip)-6, n)
			}
		})
	}
}

func FuzzAppendSlip(f *testing.F) {
	m := new(dns.Msg).SetQuestion("a.test.", dns.TypeA).SetEdns0(1232, true)
	m.Response = true
	p, _ := m.Pack()
	f.Add(p)
	f.Fuzz(func(t *testing.T, p []byte) {
		// As it is learnt: whole, by a walk over all of it.
		var q query
		if len(p) < headerLen || !q.parse(append([]byte{0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}, p[headerLen:]...)) {
			return
		}
		if _, _, ok := layout(p, q.name, nil, nil); !ok {
			return
		}
		if n := len(AppendSlip(nil, p)); n > len(p) {
			t.Fatalf("%d octets of %d", n, len(p))
		}
	})
}
