package forward

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func sentQuery() *dns.Msg {
	m := new(dns.Msg).SetQuestion("www.Example.org.", dns.TypeA)
	m.Id = 0
	return m
}

// packet is a reply to sentQuery under id 4711, changed by f.
func packet(t testing.TB, f func(m *dns.Msg)) []byte {
	t.Helper()
	q := sentQuery()
	q.Id = 4711
	m := new(dns.Msg).SetReply(q)
	rr, err := dns.NewRR("www.Example.org. 60 IN A 192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	m.Answer = []dns.RR{rr}
	if f != nil {
		f(m)
	}
	wire, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return wire
}

func TestInspect(t *testing.T) {
	whole := packet(t, nil)
	noQuestion := packet(t, func(m *dns.Msg) { m.Question, m.Answer, m.Rcode = nil, nil, dns.RcodeFormatError })
	tests := []struct {
		name string
		wire []byte
		want verdict
		msg  bool
	}{
		{"the reply", whole, accept, true},
		{"nothing", nil, foreign, false},
		{"half a header", whole[:11], foreign, false},
		{"another id", packet(t, func(m *dns.Msg) { m.Id = 4712 }), foreign, false},
		{"a query", packet(t, func(m *dns.Msg) { m.Response = false }), foreign, false},
		{"another opcode", packet(t, func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }), foreign, false},
		{"another name", packet(t, func(m *dns.Msg) { m.Question[0].Name = "www.example.net." }), foreign, false},
		{"another type", packet(t, func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAAAA }), foreign, false},
		{"another class", packet(t, func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }), foreign, false},
		{"two questions", packet(t, func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }), foreign, false},
		{"another case", packet(t, func(m *dns.Msg) { m.Question[0].Name = "www.example.org." }), doubtful, true},
		{"cut in the answer", whole[:len(whole)-2], doubtful, false},
		{"only the header is left", whole[:12], doubtful, false},
		{"cut between question and answer", whole[:12+17+4], doubtful, false},
		{"no question, NOERROR", packet(t, func(m *dns.Msg) { m.Question = nil }), foreign, false},
		{"no question, FORMERR", noQuestion, accept, true},
		{"counts beyond all bounds", append(append([]byte{}, whole[:6]...), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), doubtful, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, got := inspect(tt.wire, sentQuery(), 4711)
			if got != tt.want || (m != nil) != tt.msg {
				t.Errorf("verdict %d with message %t, want %d with %t", got, m != nil, tt.want, tt.msg)
			}
		})
	}
}

// Whatever comes in: no panic, and what is accepted has our id and our question.
func FuzzInspect(f *testing.F) {
	f.Add(packet(f, nil))
	f.Add(packet(f, func(m *dns.Msg) { m.Truncated = true; m.SetEdns0(1232, true) }))
	f.Add(packet(f, func(m *dns.Msg) { m.Question[0].Name = strings.ToUpper(m.Question[0].Name) }))
	f.Add([]byte("\x12\x67\x80\x01\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, wire []byte) {
		m, v := inspect(wire, sentQuery(), 4711)
		if v == accept && m == nil || v == foreign && m != nil {
			t.Fatalf("verdict %d with message %v", v, m)
		}
		if m == nil {
			return
		}
		if m.Id != 4711 || !m.Response || m.Opcode != dns.OpcodeQuery {
			t.Fatalf("accepted %v", m.MsgHdr)
		}
		if len(m.Question) > 0 && !strings.EqualFold(m.Question[0].Name, "www.example.org.") {
			t.Fatalf("accepted the question %v", m.Question)
		}
		req := sentQuery()
		finish(req, m)
		if len(m.Question) != 1 || m.Question[0] != req.Question[0] || m.Id != req.Id || m.IsEdns0() != nil {
			t.Fatalf("the client gets %v", m)
		}
	})
}
