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

// sentWire is sentQuery packed, and the end of its question.
func sentWire(t testing.TB) ([]byte, int) {
	t.Helper()
	wire, err := sentQuery().Pack()
	if err != nil {
		t.Fatal(err)
	}
	return wire, len(wire)
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
	}{
		{"the reply", whole, accept},
		{"nothing", nil, foreign},
		{"half a header", whole[:11], foreign},
		{"another id", packet(t, func(m *dns.Msg) { m.Id = 4712 }), foreign},
		{"a query", packet(t, func(m *dns.Msg) { m.Response = false }), foreign},
		{"another opcode", packet(t, func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }), foreign},
		{"another name", packet(t, func(m *dns.Msg) { m.Question[0].Name = "www.example.net." }), foreign},
		{"another type", packet(t, func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAAAA }), foreign},
		{"another class", packet(t, func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }), foreign},
		{"two questions", packet(t, func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }), foreign},
		{"another case", packet(t, func(m *dns.Msg) { m.Question[0].Name = "www.example.org." }), otherCase},
		{"cut in the answer", whole[:len(whole)-2], doubtful},
		{"only the header is left", whole[:12], doubtful},
		{"cut between question and answer", whole[:12+17+4], doubtful},
		{"no question, NOERROR", packet(t, func(m *dns.Msg) { m.Question = nil }), foreign},
		{"no question, FORMERR", noQuestion, accept},
		{"counts beyond all bounds", append(append([]byte{}, whole[:6]...), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), doubtful},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sent, end := sentWire(t)
			if _, got := inspect(tt.wire, sent, end, 4711); got != tt.want {
				t.Errorf("verdict %d, want %d", got, tt.want)
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
		sent, end := sentWire(t)
		l, v := inspect(wire, sent, end, 4711)
		if v != accept && v != otherCase {
			return
		}
		m := new(dns.Msg)
		if err := m.Unpack(wire[:l.end]); err != nil {
			return // data of a type that is not looked into
		}
		if len(m.Answer) != l.answers || m.Truncated != (wire[2]&bitTC != 0) || (m.IsEdns0() != nil) != (l.opts > 0) || m.Rcode != l.rcode {
			t.Fatalf("%+v is the layout of\n%v", l, m)
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
